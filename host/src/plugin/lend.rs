//! What the host lends a guest: the imports of `wit/`. A guest's input is
//! hostile: each function answers, or ends the call with a `GuestFault`.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use super::bindings::vespid::plugin::types::{
    BooleanColumn, Captures, ChangedColumn, DoubleColumn, Found, IntColumn, KeyValue, Label, LogLevel,
    Owner as WitOwner, Packed, PackedColumn, TextColumn, Value,
};
use super::bindings::vespid::plugin::{batch, edits, host, patterns, types};
use super::guest::{Guest, GuestFault, Phase};
use super::patterns::{Budget, Search};
use crate::traces::{self, Edit, NewValue, Owner, Read, Texts, decode_value};

type Result<T> = wasmtime::Result<T>;

/// Tempo refuses a longer one.
const TENANT_LIMIT: usize = 150;

fn owner(of: WitOwner) -> Owner {
    match of {
        WitOwner::Span => Owner::Span,
        WitOwner::Resource => Owner::Resource,
        WitOwner::Scope => Owner::Scope,
        WitOwner::Event => Owner::Event,
        WitOwner::Link => Owner::Link,
    }
}

fn packed(texts: traces::Packed) -> Packed {
    Packed { data: texts.data, ends: texts.ends }
}

pub(super) fn packed_column(column: traces::TextColumn) -> PackedColumn {
    PackedColumn { key: column.key, rows: column.rows, codes: column.codes, dictionary: packed(column.dictionary) }
}

fn text_column(column: traces::TextColumn) -> TextColumn {
    let values = column.texts().map(String::from).collect();
    TextColumn { key: column.key, rows: column.rows, values }
}

fn texts(packed: &traces::Packed) -> Vec<String> {
    (0..packed.ends.len()).map(|at| packed.get(at).unwrap_or_default().to_owned()).collect()
}

fn read(value: Read) -> Value {
    match value {
        Read::Text(text) => Value::Text(text),
        Read::Boolean(value) => Value::Boolean(value),
        Read::Int(value) => Value::Int(value),
        Read::Double(value) => Value::Double(value),
        Read::Bytes(bytes) => Value::Bytes(bytes),
        Read::Json(json) => Value::Json(json),
    }
}

fn new_value(call: &'static str, value: Value) -> Result<NewValue> {
    Ok(match value {
        Value::Text(text) => NewValue::Text(text),
        Value::Boolean(value) => NewValue::Boolean(value),
        Value::Int(value) => NewValue::Int(value),
        Value::Double(value) => NewValue::Double(value),
        Value::Bytes(bytes) => NewValue::Bytes(bytes),
        Value::Json(text) => NewValue::Nested(decode_value(&text).map_err(|source| GuestFault::Json { call, source })?),
    })
}

fn even(call: &'static str, rows: usize, values: usize) -> Result<()> {
    if rows == values { Ok(()) } else { Err(GuestFault::Uneven { call, rows, values }.into()) }
}

/// Packed texts whose ends ascend within the data and cut no character in two.
pub(super) fn check_packed(call: &'static str, texts: &Packed) -> Result<()> {
    let whole = std::str::from_utf8(&texts.data).map_err(|_| GuestFault::Utf8 { call })?;
    let mut before = 0;
    for &end in &texts.ends {
        if end < before || !whole.is_char_boundary(end as usize) {
            return Err(GuestFault::Packed { call }.into());
        }
        before = end;
    }
    Ok(())
}

impl types::Host for Guest {}

impl batch::Host for Guest {
    fn span_count(&mut self) -> Result<u32> {
        Ok(self.index("batch.span-count")?.count(Owner::Span) as u32)
    }

    fn row_count(&mut self, of: WitOwner) -> Result<u32> {
        Ok(self.index("batch.row-count")?.count(owner(of)) as u32)
    }

    fn trace_ids(&mut self) -> Result<Vec<u8>> {
        Ok(self.index("batch.trace-ids")?.trace_ids())
    }

    fn span_ids(&mut self) -> Result<Vec<u8>> {
        Ok(self.index("batch.span-ids")?.span_ids())
    }

    fn parent_span_ids(&mut self) -> Result<Vec<u8>> {
        Ok(self.index("batch.parent-span-ids")?.parent_span_ids())
    }

    fn start_times(&mut self) -> Result<Vec<u64>> {
        Ok(self.index("batch.start-times")?.start_times())
    }

    fn durations(&mut self) -> Result<Vec<u64>> {
        Ok(self.index("batch.durations")?.durations())
    }

    fn kinds(&mut self) -> Result<Vec<u8>> {
        Ok(self.index("batch.kinds")?.kinds())
    }

    fn status_codes(&mut self) -> Result<Vec<u8>> {
        Ok(self.index("batch.status-codes")?.status_codes())
    }

    fn names(&mut self) -> Result<Vec<String>> {
        Ok(texts(&self.index("batch.names")?.names()))
    }

    fn names_packed(&mut self) -> Result<Packed> {
        Ok(packed(self.index("batch.names-packed")?.names()))
    }

    fn trace_states(&mut self) -> Result<Packed> {
        Ok(packed(self.index("batch.trace-states")?.trace_states()))
    }

    fn flags(&mut self) -> Result<Vec<u32>> {
        Ok(self.index("batch.flags")?.flags())
    }

    fn resource_rows(&mut self) -> Result<Vec<u32>> {
        Ok(self.index("batch.resource-rows")?.resource_rows())
    }

    fn scope_rows(&mut self) -> Result<Vec<u32>> {
        Ok(self.index("batch.scope-rows")?.scope_rows())
    }

    fn scope_names(&mut self) -> Result<Vec<String>> {
        Ok(texts(&self.index("batch.scope-names")?.scope_names()))
    }

    fn scope_versions(&mut self) -> Result<Vec<String>> {
        Ok(texts(&self.index("batch.scope-versions")?.scope_versions()))
    }

    fn metadata(&mut self, key: String) -> Result<Vec<String>> {
        let metadata = &self.context("batch.metadata")?.metadata;
        let found = metadata.iter().filter(|(name, _)| name.eq_ignore_ascii_case(&key));
        Ok(found.map(|(_, value)| value.clone()).collect())
    }

    fn auth(&mut self, key: String) -> Result<Vec<String>> {
        let found = self.context("batch.auth")?.auth.iter().filter(|(name, _)| *name == key);
        Ok(found.map(|(_, value)| value.clone()).collect())
    }

    fn client_address(&mut self) -> Result<String> {
        Ok(self.context("batch.client-address")?.client.map(|client| client.to_string()).unwrap_or_default())
    }

    fn receiver(&mut self) -> Result<String> {
        Ok(self.context("batch.receiver")?.receiver.to_string())
    }

    fn transport(&mut self) -> Result<String> {
        Ok(self.context("batch.transport")?.transport.to_owned())
    }

    fn event_span_rows(&mut self) -> Result<Vec<u32>> {
        Ok(self.index("batch.event-span-rows")?.event_span_rows())
    }

    fn event_names(&mut self) -> Result<Vec<String>> {
        Ok(texts(&self.index("batch.event-names")?.event_names()))
    }

    fn link_span_rows(&mut self) -> Result<Vec<u32>> {
        Ok(self.index("batch.link-span-rows")?.link_span_rows())
    }

    fn duplicate_rows(&mut self, of: WitOwner) -> Result<Vec<u32>> {
        Ok(self.index("batch.duplicate-rows")?.duplicate_rows(owner(of)))
    }

    fn attribute_keys(&mut self, of: WitOwner) -> Result<Vec<String>> {
        Ok(self.index("batch.attribute-keys")?.attribute_keys(owner(of)))
    }

    fn attribute_types(&mut self, of: WitOwner, key: String) -> Result<Vec<u8>> {
        Ok(self.index("batch.attribute-types")?.attribute_types(owner(of), &key))
    }

    fn text_attribute(&mut self, of: WitOwner, key: String) -> Result<TextColumn> {
        Ok(text_column(self.index("batch.text-attribute")?.text_attribute(owner(of), &key)))
    }

    fn text_attribute_packed(&mut self, of: WitOwner, key: String) -> Result<PackedColumn> {
        Ok(packed_column(self.index("batch.text-attribute-packed")?.text_attribute(owner(of), &key)))
    }

    fn int_attribute(&mut self, of: WitOwner, key: String) -> Result<IntColumn> {
        let (rows, values) = self.index("batch.int-attribute")?.int_attribute(owner(of), &key);
        Ok(IntColumn { rows, values })
    }

    fn double_attribute(&mut self, of: WitOwner, key: String) -> Result<DoubleColumn> {
        let (rows, values) = self.index("batch.double-attribute")?.double_attribute(owner(of), &key);
        Ok(DoubleColumn { rows, values })
    }

    fn boolean_attribute(&mut self, of: WitOwner, key: String) -> Result<BooleanColumn> {
        let (rows, values) = self.index("batch.boolean-attribute")?.boolean_attribute(owner(of), &key);
        Ok(BooleanColumn { rows, values })
    }

    fn text_columns(&mut self, of: WitOwner) -> Result<Vec<TextColumn>> {
        let columns = self.index("batch.text-columns")?.text_columns(owner(of));
        Ok(columns.into_iter().map(text_column).collect())
    }

    fn text_columns_packed(&mut self, of: WitOwner) -> Result<Vec<PackedColumn>> {
        let columns = self.index("batch.text-columns-packed")?.text_columns(owner(of));
        Ok(columns.into_iter().map(packed_column).collect())
    }

    fn find_text(&mut self, of: WitOwner, part: String) -> Result<Vec<TextColumn>> {
        let columns = self.index("batch.find-text")?.find_text(owner(of), &part);
        Ok(columns.into_iter().map(text_column).collect())
    }

    fn attribute(&mut self, of: WitOwner, row: u32, key: String) -> Result<Option<Value>> {
        let (call, of) = ("batch.attribute", owner(of));
        let index = self.index(call)?;
        if row as usize >= index.count(of) {
            return Err(GuestFault::Row { call, owner: of, row, rows: index.count(of) }.into());
        }
        Ok(index.attribute(of, row, &key).map(read))
    }

    fn attributes(&mut self, of: WitOwner, row: u32) -> Result<Vec<KeyValue>> {
        let (call, of) = ("batch.attributes", owner(of));
        let index = self.index(call)?;
        let found = index.attributes(of, row);
        let found = found.ok_or_else(|| GuestFault::Row { call, owner: of, row, rows: index.count(of) })?;
        Ok(found.into_iter().map(|(key, value)| KeyValue { key, value: read(value) }).collect())
    }
}

impl edits::Host for Guest {
    fn drop_spans(&mut self, rows: Vec<u32>, reason: String) -> Result<()> {
        let call = "edits.drop-spans";
        let entries = self.entries(call, Owner::Span, rows)?;
        self.edit(call, Edit::Drop { entries, reason })
    }

    fn set_attribute(&mut self, of: WitOwner, rows: Vec<u32>, key: String, value: Value) -> Result<()> {
        let (call, owner) = ("edits.set-attribute", owner(of));
        let value = new_value(call, value)?;
        let entries = self.entries(call, owner, rows)?;
        self.edit(call, Edit::Set { owner, entries, key, value })
    }

    fn set_text_attribute(&mut self, of: WitOwner, rows: Vec<u32>, key: String, values: Vec<String>) -> Result<()> {
        let (call, owner) = ("edits.set-text-attribute", owner(of));
        even(call, rows.len(), values.len())?;
        let mut texts = Texts::default();
        for value in &values {
            texts.data.extend_from_slice(value.as_bytes());
            texts.ends.push(texts.data.len() as u32);
        }
        let entries = self.entries(call, owner, rows)?;
        self.edit(call, Edit::SetTexts { owner, entries, key, texts })
    }

    fn set_text_attribute_coded(
        &mut self,
        of: WitOwner,
        rows: Vec<u32>,
        key: String,
        codes: Vec<u32>,
        dictionary: Packed,
    ) -> Result<()> {
        let (call, owner) = ("edits.set-text-attribute-coded", owner(of));
        even(call, rows.len(), codes.len())?;
        check_packed(call, &dictionary)?;
        let texts = dictionary.ends.len();
        if let Some(&code) = codes.iter().find(|&&code| code as usize >= texts) {
            return Err(GuestFault::Code { call, code, texts }.into());
        }
        let entries = self.entries(call, owner, rows)?;
        let texts = Texts { data: dictionary.data, ends: dictionary.ends, codes };
        self.edit(call, Edit::SetTexts { owner, entries, key, texts })
    }

    fn replace_texts(
        &mut self,
        of: WitOwner,
        rows: Vec<u32>,
        key: String,
        codes: Vec<u32>,
        old: Packed,
        new: Packed,
    ) -> Result<()> {
        let (call, owner) = ("edits.replace-texts", owner(of));
        even(call, rows.len(), codes.len())?;
        even(call, old.ends.len(), new.ends.len())?;
        check_packed(call, &old)?;
        check_packed(call, &new)?;
        let texts = new.ends.len();
        if let Some(&code) = codes.iter().find(|&&code| code as usize >= texts) {
            return Err(GuestFault::Code { call, code, texts }.into());
        }
        let entries = self.entries(call, owner, rows)?;
        let old = Texts { data: old.data, ends: old.ends, codes: vec![] };
        let new = Texts { data: new.data, ends: new.ends, codes };
        let edit = self.index(call)?.replacement(owner, &entries, &key, &old, new);
        self.edit(call, edit)
    }

    fn remove_attribute(&mut self, of: WitOwner, rows: Vec<u32>, key: String) -> Result<()> {
        let (call, owner) = ("edits.remove-attribute", owner(of));
        let entries = self.entries(call, owner, rows)?;
        self.edit(call, Edit::Remove { owner, entries, key })
    }

    fn set_names(&mut self, rows: Vec<u32>, names: Vec<String>) -> Result<()> {
        let call = "edits.set-names";
        even(call, rows.len(), names.len())?;
        let entries = self.entries(call, Owner::Span, rows)?;
        self.edit(call, Edit::SetNames { entries, names })
    }

    fn set_status(&mut self, rows: Vec<u32>, code: u8, message: String) -> Result<()> {
        let call = "edits.set-status";
        if code > 2 {
            return Err(GuestFault::Status(code).into());
        }
        let entries = self.entries(call, Owner::Span, rows)?;
        self.edit(call, Edit::SetStatus { entries, code, message })
    }

    fn set_tenant(&mut self, rows: Vec<u32>, tenant: String) -> Result<()> {
        let call = "edits.set-tenant";
        if tenant.len() > TENANT_LIMIT || tenant.chars().any(char::is_control) {
            let shown = tenant.chars().take(64).collect();
            return Err(GuestFault::Tenant(shown, TENANT_LIMIT).into());
        }
        let entries = self.entries(call, Owner::Span, rows)?;
        self.edit(call, Edit::SetTenant { entries, tenant })
    }
}

impl patterns::Host for Guest {
    fn compile(&mut self, pattern: String) -> Result<std::result::Result<u32, String>> {
        if self.phase != Phase::Configure {
            return Err(GuestFault::CompileLate.into());
        }
        Ok(self.patterns.compile(&pattern))
    }

    fn group_names(&mut self, pattern: u32) -> Result<Vec<String>> {
        Ok(self.patterns.group_names(pattern)?)
    }

    fn find_matches(&mut self, of: WitOwner, patterns: Vec<u32>) -> Result<Vec<PackedColumn>> {
        let owner = owner(of);
        let columns = self.search("patterns.find-matches", &patterns, |index, search| {
            let mut matching = vec![];
            for spot in search.spots(index, owner) {
                if search.matches(index.text_at(&spot), spot.found_by)? {
                    matching.push(spot);
                }
            }
            Ok(index.columns_of(matching.into_iter()))
        })?;
        Ok(columns.into_iter().map(packed_column).collect())
    }

    fn match_texts(&mut self, patterns: Vec<u32>, texts: Packed) -> Result<Vec<u8>> {
        let call = "patterns.match-texts";
        check_packed(call, &texts)?;
        self.search(call, &patterns, |_, search| {
            let each = search.each(&texts.data, &texts.ends);
            each.map(|(text, which)| search.matches(text, which).map(u8::from)).collect()
        })
    }

    fn find_in_texts(&mut self, pattern: u32, texts: Packed) -> Result<Vec<Found>> {
        let (call, limit) = ("patterns.find-in-texts", self.limits.memory);
        check_packed(call, &texts)?;
        self.search(call, &[pattern], |_, search| {
            let mut found = vec![];
            for (number, (text, which)) in (0..).zip(search.each(&texts.data, &texts.ends)) {
                search.find(text, which, |start, end| {
                    found.push(Found { text: number, start: start as u32, end: end as u32 });
                    lends(found.len() * size_of::<Found>(), limit)
                })?;
            }
            Ok(found)
        })
    }

    fn capture_in_texts(&mut self, pattern: u32, texts: Packed) -> Result<Captures> {
        let (call, limit) = ("patterns.capture-in-texts", self.limits.memory);
        check_packed(call, &texts)?;
        self.search(call, &[pattern], |_, search| {
            let mut captures = Captures { texts: vec![], offsets: vec![] };
            for (number, (text, which)) in (0..).zip(search.each(&texts.data, &texts.ends)) {
                if search.capture(text, which, &mut captures.offsets)? {
                    captures.texts.push(number);
                }
                lends(captures.offsets.len() * size_of::<u32>(), limit)?;
            }
            Ok(captures)
        })
    }

    fn replace_in_texts(&mut self, patterns: Vec<u32>, texts: Packed, replacement: String) -> Result<Packed> {
        let (call, limit) = ("patterns.replace-in-texts", self.limits.memory);
        check_packed(call, &texts)?;
        self.search(call, &patterns, |_, search| {
            let mut out = Packed { data: vec![], ends: vec![] };
            for (text, which) in search.each(&texts.data, &texts.ends) {
                let replaced = search.replace(text, which, &replacement, limit)?;
                out.data.extend_from_slice(replaced.as_deref().unwrap_or(text).as_bytes());
                lends(out.data.len(), limit)?;
                out.ends.push(out.data.len() as u32);
            }
            Ok(out)
        })
    }

    fn replace_matches(&mut self, of: WitOwner, patterns: Vec<u32>, replacement: String) -> Result<Vec<ChangedColumn>> {
        let (call, owner, limit) = ("patterns.replace-matches", owner(of), self.limits.memory);
        let (edit, changed) = self.search(call, &patterns, |index, search| {
            let mut bytes = 0;
            index.rewrites(owner, search.spots(index, owner), |spot| {
                let replaced = search.replace(index.text_at(spot), spot.found_by, &replacement, limit)?;
                bytes += replaced.as_ref().map_or(0, String::len);
                if bytes > limit { Err(GuestFault::Edits { bytes, limit }) } else { Ok(replaced) }
            })
        })?;
        let changed = changed.into_iter().map(|it| ChangedColumn { key: it.key, rows: it.rows }).collect();
        self.edit(call, edit)?;
        Ok(changed)
    }
}

type FaultOr<T> = std::result::Result<T, GuestFault>;

/// What a host function gives back may not be larger than the guest itself.
fn lends(bytes: usize, limit: usize) -> FaultOr<()> {
    if bytes > limit { Err(GuestFault::Lent { bytes, limit }) } else { Ok(()) }
}

impl Guest {
    fn context(&self, call: &'static str) -> Result<&traces::Context> {
        match &self.batch {
            Some(batch) if self.phase == Phase::Process => Ok(&batch.context),
            _ => Err(GuestFault::NoBatch(call).into()),
        }
    }

    /// Searches the batch, or texts of the guest's own. A search that turns out to
    /// be long is begun anew where this worker's other tasks need not wait for it.
    fn search<R>(
        &self,
        call: &'static str,
        patterns: &[u32],
        search: impl Fn(&traces::Index, &Search<'_>) -> FaultOr<R>,
    ) -> Result<R> {
        let index = self.index(call)?;
        let within = |budget: Budget<'_>| search(index, &self.patterns.search(patterns, budget)?);
        let budget = || Budget::new(&self.meter, self.deadline);
        // Only a runtime of several workers can give its other tasks to another thread.
        let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
        if !flavor.is_ok_and(|flavor| flavor == RuntimeFlavor::MultiThread) {
            return Ok(within(budget())?);
        }
        match within(budget().impatient()) {
            Err(GuestFault::Impatient) => Ok(block_in_place(|| within(budget()))?),
            done => Ok(done?),
        }
    }
}

impl host::Host for Guest {
    fn log(&mut self, level: LogLevel, message: String) -> Result<()> {
        let level = match level {
            LogLevel::Trace => tracing::Level::TRACE,
            LogLevel::Debug => tracing::Level::DEBUG,
            LogLevel::Info => tracing::Level::INFO,
            LogLevel::Warn => tracing::Level::WARN,
            LogLevel::Error => tracing::Level::ERROR,
        };
        self.log.write(&self.id, level, &message);
        Ok(())
    }

    fn counter_add(&mut self, name: String, labels: Vec<Label>, amount: f64) -> Result<()> {
        self.metrics.add(&name, pairs(labels), amount);
        Ok(())
    }

    fn histogram_record(&mut self, name: String, labels: Vec<Label>, value: f64) -> Result<()> {
        self.metrics.record(&name, pairs(labels), value);
        Ok(())
    }

    fn now(&mut self) -> Result<u64> {
        Ok(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64))
    }

    fn random(&mut self) -> Result<u32> {
        Ok(fastrand::u32(..))
    }
}

fn pairs(labels: Vec<Label>) -> Vec<(String, String)> {
    labels.into_iter().map(|label| (label.name, label.value)).collect()
}
