//! What the fuzz targets in `tests/fuzz` run, here so that the ordinary tests
//! can replay their corpus. A broken promise is a failed assertion.

use std::sync::Arc;

use super::edit::{Edit, NewValue, Texts};
use super::index::{Index, Owner};
use super::message::Message;
use super::{Batch, Context, concatenate, decode_request, decode_value, encode_request, split, walk};

/// Keys that generated requests carry and generated edits name, so that they meet.
pub(super) const KEYS: [&str; 8] = [
    "http.method",
    "user.email",
    "a",
    "ключ",
    "",
    "k",
    "a.rather.long.key.that.takes.more.than.one.varint.byte.for.its.length.a.rather.long.key.that.takes.more.than.one.varint.byte",
    "db.statement",
];

const TEXTS: [&str; 8] = ["", "GET", "ada@example.org", "müßig 🐝", "SELECT 1", "\u{0}", "a@b", "x"];

const NESTED: [&str; 7] = [
    "{}",
    r#"{"arrayValue":{"values":[{"intValue":"-1"},{},{"stringValue":"@"}]}}"#,
    r#"{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[]}}},{"key":"b"}]}}"#,
    r#"{"stringValue":"a text as JSON"}"#,
    r#"{"intValue":"7"}"#,
    r#"{"doubleValue":"NaN"}"#,
    r#"{"arrayValue":{}}"#,
];

/// Bytes that decide what is generated. Once they are used up every choice is
/// the first and every count zero, so that fewer bytes mean a smaller case.
pub struct Choices<'a> {
    bytes: &'a [u8],
}

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The first of so many parts, for something that must not use up all.
    pub fn share(&mut self, parts: usize) -> Self {
        let (first, rest) = self.bytes.split_at(self.bytes.len() / parts.max(1));
        self.bytes = rest;
        Self { bytes: first }
    }

    /// The bytes so many times over.
    pub fn repeated(&self, times: usize) -> Vec<u8> {
        self.bytes.repeat(times)
    }

    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.bytes.split_first().map_or((0, self.bytes), |(&first, rest)| (first, rest));
        self.bytes = rest;
        first
    }

    pub fn below(&mut self, limit: usize) -> usize {
        match limit {
            0 | 1 => 0,
            2..=256 => usize::from(self.byte()) % limit,
            _ => (usize::from(self.byte()) << 8 | usize::from(self.byte())) % limit,
        }
    }

    /// True once in `times`, and never when the bytes are used up.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times.max(2)) == 1
    }

    pub fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    pub fn of<'t, T: ?Sized>(&mut self, list: &[&'t T]) -> Option<&'t T> {
        list.get(self.below(list.len())).copied()
    }

    pub fn key(&mut self) -> String {
        self.of(&KEYS).unwrap_or_default().into()
    }

    pub fn text(&mut self) -> String {
        let text = self.of(&TEXTS).unwrap_or_default();
        if self.once_in(16) { text.repeat(40) } else { text.into() }
    }
}

/// Up to five edits of one call.
pub(super) fn edits(choices: &mut Choices, index: &Index, tenants: bool) -> Vec<Edit> {
    let count = choices.below(6);
    (0..count).map(|_| edit(choices, index, tenants)).collect()
}

fn edit(choices: &mut Choices, index: &Index, tenants: bool) -> Edit {
    let owner = Owner::ALL.get(choices.below(8)).copied().unwrap_or(Owner::Span);
    let kind = choices.below(if tenants { 8 } else { 7 });
    let entries = entries(choices, index, if matches!(kind, 3..=5 | 7) { Owner::Span } else { owner });
    match kind {
        0 | 6 => Edit::Set { owner, entries, key: choices.key(), value: new_value(choices) },
        1 => {
            let texts = texts(choices, entries.len());
            Edit::SetTexts { owner, entries, key: choices.key(), texts }
        }
        2 => Edit::Remove { owner, entries, key: choices.key() },
        3 => Edit::Drop { entries, reason: "chance".into() },
        4 => {
            let names = entries.iter().map(|_| choices.text()).collect();
            Edit::SetNames { entries, names }
        }
        5 => Edit::SetStatus { entries, code: choices.below(3) as u8, message: choices.text() },
        _ => Edit::SetTenant { entries, tenant: format!("tenant-{}", choices.below(3)) },
    }
}

/// The entries of all rows, of some, or of one named twice.
fn entries(choices: &mut Choices, index: &Index, owner: Owner) -> Vec<u32> {
    let rows = index.count(owner);
    let chosen: Vec<usize> = match choices.below(4) {
        0 => (0..rows).collect(),
        1 => {
            let row = choices.below(rows);
            vec![row, row]
        }
        _ => (0..rows).filter(|_| choices.once_in(2)).collect(),
    };
    chosen.into_iter().filter_map(|row| index.entry(owner, row)).map(|entry| entry as u32).collect()
}

fn new_value(choices: &mut Choices) -> NewValue {
    match choices.below(7) {
        0 => NewValue::Text(choices.text()),
        1 => NewValue::Boolean(choices.once_in(2)),
        2 => NewValue::Int(choices.number() as i64),
        3 => NewValue::Double(f64::from_bits(choices.number())),
        4 => NewValue::Double(f64::NAN),
        5 => NewValue::Bytes(choices.number().to_le_bytes().into()),
        _ => NewValue::Nested(decode_value(choices.of(&NESTED).unwrap_or_default()).unwrap_or_default()),
    }
}

fn texts(choices: &mut Choices, rows: usize) -> Texts {
    let coded = choices.once_in(2);
    let count = if coded { 1 + choices.below(3) } else { rows };
    let mut texts = Texts::default();
    for _ in 0..count {
        texts.data.extend_from_slice(choices.text().as_bytes());
        texts.ends.push(texts.data.len() as u32);
    }
    if coded {
        texts.codes = (0..rows).map(|_| choices.below(count) as u32).collect();
    }
    texts
}

/// Both walks say the same of any bytes, and what they accept can be read and cut.
pub fn walk(input: &[u8]) {
    let message = Message::copy_of(input);
    let (validated, indexed) = (walk::validate(&message.bytes()), walk::index(&message.bytes()));
    let (validated, indexed) = match (validated, indexed) {
        (Ok(validated), Ok(indexed)) => (validated, indexed),
        (validated, indexed) => {
            assert_eq!(validated.err(), indexed.err(), "the two walks disagree");
            return;
        }
    };
    assert_eq!((validated.spans, validated.invalid), (indexed.spans, indexed.invalid));
    let received = Batch::receive(message.clone(), Arc::default(), true);
    assert!(received.is_ok(), "an accepted message is not received");
    let Ok((mut batch, _)) = received else { return };
    assert_eq!(batch.spans(), indexed.spans - indexed.invalid);
    if let Ok(index) = batch.index() {
        read(index);
    }
    let pieces = split(&message, 2, usize::MAX).unwrap_or_default();
    assert_eq!(pieces.iter().map(|piece| piece.spans).sum::<usize>(), indexed.spans);
    for piece in &pieces {
        assert!(piece.spans <= 2);
        check(&piece.message, piece.spans);
    }
    check(&concatenate(pieces.iter().map(|piece| &piece.message)), indexed.spans);
}

/// Calls every read there is.
fn read(index: &Index) {
    let spans = index.count(Owner::Span);
    let lengths = [index.trace_ids().len() / 16, index.span_ids().len() / 8, index.parent_span_ids().len() / 8];
    assert_eq!(lengths, [spans; 3]);
    let lengths = [index.start_times().len(), index.durations().len(), index.kinds().len(), index.names().ends.len()];
    assert_eq!(lengths, [spans; 4]);
    let resources = index.count(Owner::Resource);
    assert!(index.resource_rows().iter().all(|&row| (row as usize) < resources));
    let scopes = index.count(Owner::Scope);
    assert!(index.scope_rows().iter().all(|&row| (row as usize) < scopes));
    assert!(index.event_span_rows().iter().chain(&index.link_span_rows()).all(|&row| (row as usize) < spans));
    assert_eq!(index.event_names().ends.len(), index.count(Owner::Event));
    for owner in Owner::ALL {
        for column in index.text_columns(owner) {
            assert_eq!(column.texts().count(), column.rows.len());
        }
        index.find_text(owner, "@");
        for key in KEYS {
            assert_eq!(index.attribute_types(owner, key).len(), index.count(owner));
            index.int_attribute(owner, key);
            index.double_attribute(owner, key);
            index.boolean_attribute(owner, key);
        }
        for row in 0..index.count(owner) as u32 {
            assert!(index.attributes(owner, row).is_some());
        }
    }
    assert!(spans == 0 || !index.show().is_empty());
}

/// A message that we wrote is one that we accept.
fn check(message: &Message, spans: usize) {
    let walked = walk::index(&message.bytes());
    assert!(walked.is_ok(), "what was written is refused: {:?}", walked.err());
    assert!(walked.is_ok_and(|walked| walked.spans == spans), "spans were lost or doubled");
}

/// Two rounds of edits on any request that is accepted: what comes out is
/// accepted, has the spans that were left, and no invalid ones.
///
/// The input is the length of the choices (two bytes, little endian), the
/// choices, the request.
pub fn splice(input: &[u8]) {
    let Some((length, rest)) = input.split_first_chunk::<2>() else { return };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (choices, message) = rest.split_at(length);
    let mut choices = Choices::new(choices);
    let Ok((mut batch, _)) = Batch::receive(Message::copy_of(message), Arc::new(Context::default()), true) else {
        return;
    };
    for _ in 0..2 {
        let Ok(index) = batch.index() else { return };
        let edits = edits(&mut choices, index, true);
        let growth = index.growth + index.growth_of(&edits);
        let applied = batch.apply(edits);
        assert!(applied.is_ok());
        if let Some(index) = batch.indexed() {
            assert!(index.growth <= growth, "edits grew by more than was said before");
            read(index);
        }
    }
    let spans = batch.spans();
    // What no edit touched goes out as it came, which may be longer than its index's bytes.
    let limit = batch.indexed().map_or(usize::MAX, |index| message.len().max(index.wire.len() + index.growth));
    let parcels = batch.finish();
    for parcel in &parcels {
        check(&parcel.message, parcel.spans);
        assert!(parcel.message.len() <= limit, "more was written than there was room for");
        assert!(walk::validate(&parcel.message.bytes()).is_ok_and(|walked| walked.invalid == 0));
    }
    assert_eq!(parcels.iter().map(|parcel| parcel.spans).sum::<usize>(), spans);
}

/// Any text: what is decoded from JSON passes the walk, is within the limit that
/// it was given, and comes back the same from the JSON that it makes.
pub fn json(input: &[u8]) {
    let Ok(message) = decode_request(input, usize::MAX) else { return };
    assert!(decode_request(input, message.len()).is_ok(), "a limit that is kept refuses");
    assert!(message.is_empty() || decode_request(input, message.len() - 1).is_err(), "a limit is passed");
    assert!(walk::validate(&message.bytes()).is_ok(), "what was decoded is refused");
    let once = encode_request(&message).ok().and_then(|json| Some((decode_request(&json, usize::MAX).ok()?, json)));
    assert!(once.is_some(), "what was written as JSON is refused");
    let Some((once, json)) = once else { return };
    assert!(encode_request(&once).is_ok_and(|again| again == json), "the same request makes another text");
}
