//! A reader of the Prometheus text.

use std::collections::BTreeMap;

#[derive(Debug, Clone)]
pub struct Series {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// One scrape.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub series: Vec<Series>,
    /// The `# TYPE` lines.
    pub types: BTreeMap<String, String>,
}

impl Metrics {
    /// Reads the text; a line that is none panics.
    pub fn parse(text: &str) -> Self {
        let mut metrics = Self { series: vec![], types: BTreeMap::new() };
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix('#') {
                if let Some(rest) = comment.strip_prefix(" TYPE ") {
                    let (name, kind) = rest.split_once(' ').expect("a type line has a name and a type");
                    let before = metrics.types.insert(name.to_owned(), kind.to_owned());
                    assert!(before.is_none(), "family `{name}` is written twice");
                }
                continue;
            }
            metrics.series.push(series(line));
        }
        metrics
    }

    /// The sum of all series of this name that have these labels; 0 if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.matching(name, labels).map(|series| series.value).sum::<f64>() as u64
    }

    pub fn matching<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Series> {
        let fits = |series: &&Series| {
            labels.iter().all(|&(name, value)| series.labels.get(name).is_some_and(|found| found == value))
        };
        self.series.iter().filter(move |series| series.name == name).filter(fits)
    }
}

fn series(line: &str) -> Series {
    let (head, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("`{line}` has no value"));
    let value = value.parse().unwrap_or_else(|_| panic!("`{line}` has no number"));
    let (name, labels) = match head.split_once('{') {
        None => (head, BTreeMap::new()),
        Some((name, rest)) => (name, labels(rest.strip_suffix('}').expect("labels end in a brace"))),
    };
    Series { name: name.to_owned(), labels, value }
}

fn labels(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next().expect("a label's value ends in a quote") {
                (_, '\\') => match characters.next().expect("an escape has a character").1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (at, '"') => break at,
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.trim_start_matches(',').to_owned(), value);
        text = &rest[end + 1..];
    }
    labels
}
