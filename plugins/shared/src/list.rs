//! A list of texts as the Collector reads one from YAML.

use std::fmt;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

/// Texts. One text stands for those between its commas, and null among others for
/// the empty one, as in the Collector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextList(pub Vec<String>);

impl<'de> Deserialize<'de> for TextList {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Texts)
    }
}

struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = TextList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts")
    }

    fn visit_str<E>(self, text: &str) -> Result<TextList, E> {
        let texts = text.split(',').filter(|_| !text.is_empty());
        Ok(TextList(texts.map(str::to_owned).collect()))
    }

    fn visit_unit<E>(self) -> Result<TextList, E> {
        Ok(TextList::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<TextList, A::Error> {
        let mut texts = vec![];
        while let Some(text) = items.next_element::<Option<String>>()? {
            texts.push(text.unwrap_or_default());
        }
        Ok(TextList(texts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_a_list_too() {
        let read = |text: &str| serde_json::from_str::<TextList>(text).map(|list| list.0).map_err(|it| it.to_string());
        assert_eq!(read(r#"["a", null, ""]"#).unwrap(), ["a", "", ""]);
        assert_eq!(read(r#""a,b c""#).unwrap(), ["a", "b c"]);
        assert!(read(r#""""#).unwrap().is_empty());
        assert!(read("null").unwrap().is_empty());
        assert!(read("5").unwrap_err().contains("expected a list of texts"));
    }
}
