//! The same edits on prost's structs.

use std::collections::{HashMap, HashSet};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;

use crate::traces::edit::text_range;
use crate::traces::{Edit, NewValue, Owner};

/// A request with the edits applied; dropped spans stay in place until the end,
/// so that an entry's number is its place in the request.
pub struct Model {
    pub request: ExportTraceServiceRequest,
    pub spans: Vec<(usize, usize, usize)>,
    pub scopes: Vec<(usize, usize)>,
    /// The span's entry and the place within.
    pub events: Vec<(usize, usize)>,
    pub links: Vec<(usize, usize)>,
    pub live: Vec<bool>,
    pub tenants: Vec<String>,
    /// What had no resource (scope) at first.
    absent: [HashSet<usize>; 5],
    /// The attributes that edits touched, and whether the `KeyValue` that came is still there.
    pub touched: HashMap<(usize, usize, String), bool>,
}

impl Model {
    pub fn new(request: ExportTraceServiceRequest) -> Self {
        let (mut spans, mut scopes, mut events, mut links) = (vec![], vec![], vec![], vec![]);
        let mut absent: [HashSet<usize>; 5] = Default::default();
        for (resource, resource_spans) in request.resource_spans.iter().enumerate() {
            if resource_spans.resource.is_none() {
                absent[Owner::Resource as usize].insert(resource);
            }
            for (scope, scope_spans) in resource_spans.scope_spans.iter().enumerate() {
                if scope_spans.scope.is_none() {
                    absent[Owner::Scope as usize].insert(scopes.len());
                }
                scopes.push((resource, scope));
                for (at, span) in scope_spans.spans.iter().enumerate() {
                    events.extend((0..span.events.len()).map(|event| (spans.len(), event)));
                    links.extend((0..span.links.len()).map(|link| (spans.len(), link)));
                    spans.push((resource, scope, at));
                }
            }
        }
        let (live, tenants) = (vec![true; spans.len()], vec![String::new(); spans.len()]);
        Self { request, spans, scopes, events, links, live, tenants, absent, touched: HashMap::new() }
    }

    pub fn scope(&self, entry: usize) -> &ScopeSpans {
        let (resource, scope) = self.scopes[entry];
        &self.request.resource_spans[resource].scope_spans[scope]
    }

    pub fn span(&self, entry: usize) -> &Span {
        let (resource, scope, span) = self.spans[entry];
        &self.request.resource_spans[resource].scope_spans[scope].spans[span]
    }

    fn span_mut(&mut self, entry: usize) -> &mut Span {
        let (resource, scope, span) = self.spans[entry];
        &mut self.request.resource_spans[resource].scope_spans[scope].spans[span]
    }

    pub fn event(&self, entry: usize) -> &Event {
        &self.span(self.events[entry].0).events[self.events[entry].1]
    }

    pub fn link(&self, entry: usize) -> &Link {
        &self.span(self.links[entry].0).links[self.links[entry].1]
    }

    pub fn attributes(&self, owner: Owner, entry: usize) -> &[KeyValue] {
        match owner {
            Owner::Span => &self.span(entry).attributes,
            Owner::Resource => self.request.resource_spans[entry].resource.as_ref().map_or(&[], |it| &it.attributes),
            Owner::Scope => self.scope(entry).scope.as_ref().map_or(&[], |it| &it.attributes),
            Owner::Event => &self.event(entry).attributes,
            Owner::Link => &self.link(entry).attributes,
        }
    }

    fn attributes_mut(&mut self, owner: Owner, entry: usize) -> &mut Vec<KeyValue> {
        match owner {
            Owner::Span => &mut self.span_mut(entry).attributes,
            Owner::Resource => {
                &mut self.request.resource_spans[entry].resource.get_or_insert_with(Default::default).attributes
            }
            Owner::Scope => {
                let (resource, scope) = self.scopes[entry];
                let scope = &mut self.request.resource_spans[resource].scope_spans[scope];
                &mut scope.scope.get_or_insert_with(Default::default).attributes
            }
            Owner::Event => {
                let (span, at) = self.events[entry];
                &mut self.span_mut(span).events[at].attributes
            }
            Owner::Link => {
                let (span, at) = self.links[entry];
                &mut self.span_mut(span).links[at].attributes
            }
        }
    }

    /// The entries that are left.
    pub fn rows(&self, owner: Owner) -> Vec<usize> {
        let of = |range: (usize, Option<usize>)| {
            let mut spans = self.spans.iter().zip(&self.live);
            let mut spans = spans.by_ref().filter(|((resource, scope, _), _)| {
                *resource == range.0 && range.1.is_none_or(|wanted| wanted == *scope)
            });
            let mut any = false;
            let live = spans.by_ref().any(|(_, live)| {
                any = true;
                *live
            });
            live || !any
        };
        match owner {
            Owner::Span => (0..self.spans.len()).filter(|&span| self.live[span]).collect(),
            Owner::Resource => (0..self.request.resource_spans.len()).filter(|&entry| of((entry, None))).collect(),
            Owner::Scope => (0..self.scopes.len())
                .filter(|&entry| {
                    let (resource, scope) = self.scopes[entry];
                    of((resource, None)) && of((resource, Some(scope)))
                })
                .collect(),
            Owner::Event => (0..self.events.len()).filter(|&entry| self.live[self.events[entry].0]).collect(),
            Owner::Link => (0..self.links.len()).filter(|&entry| self.live[self.links[entry].0]).collect(),
        }
    }

    pub fn apply(&mut self, edits: &[Edit]) {
        for edit in edits {
            match edit {
                Edit::Drop { entries, .. } => entries.iter().for_each(|&entry| self.live[entry as usize] = false),
                Edit::Set { owner, entries, key, value } => {
                    entries.iter().for_each(|&entry| self.set(*owner, entry as usize, key, any_value(value)));
                }
                Edit::SetTexts { owner, entries, key, texts } => {
                    for (row, &entry) in entries.iter().enumerate() {
                        let code = texts.codes.get(row).map_or(row, |&code| code as usize);
                        let text = std::str::from_utf8(&texts.data[text_range(texts, code)]).unwrap();
                        let value = AnyValue { value: Some(Value::StringValue(text.into())) };
                        self.set(*owner, entry as usize, key, value);
                    }
                }
                Edit::Remove { owner, entries, key } => {
                    entries.iter().for_each(|&entry| self.remove(*owner, entry as usize, key));
                }
                // It comes of `Index::rewrites` alone, and has `rewrite_texts` as its model.
                Edit::Rewrite { .. } => unreachable!(),
                Edit::SetNames { entries, names } => {
                    for (&entry, name) in entries.iter().zip(names) {
                        self.span_mut(entry as usize).name = name.clone();
                    }
                }
                Edit::SetStatus { entries, code, message } => {
                    for &entry in entries {
                        let status = Status { code: i32::from(*code), message: message.clone() };
                        self.span_mut(entry as usize).status = Some(status);
                    }
                }
                Edit::SetTenant { entries, tenant } => {
                    entries.iter().for_each(|&entry| self.tenants[entry as usize] = tenant.clone());
                }
            }
        }
    }

    /// Every text attribute that `rewrite` has another text for gets it.
    pub fn rewrite_texts(&mut self, owner: Owner, rewrite: impl Fn(&str) -> Option<String>) {
        for entry in self.rows(owner) {
            if self.attributes(owner, entry).is_empty() {
                continue;
            }
            for attribute in self.attributes_mut(owner, entry) {
                if let Some(AnyValue { value: Some(Value::StringValue(text)) }) = &mut attribute.value
                    && let Some(new) = rewrite(text)
                {
                    *text = new;
                }
            }
        }
    }

    fn set(&mut self, owner: Owner, entry: usize, key: &str, value: AnyValue) {
        let attributes = self.attributes_mut(owner, entry);
        let count = attributes.iter().filter(|it| it.key == key).count();
        let first = attributes.iter().position(|it| it.key == key);
        match first {
            Some(first) => {
                attributes[first].value = Some(value);
                let mut at = 0;
                attributes.retain(|it| {
                    at += 1;
                    it.key != key || at == first + 1
                });
            }
            None => attributes.push(KeyValue { key: key.into(), value: Some(value), key_strindex: 0 }),
        }
        let kept = self.touched.entry((owner as usize, entry, key.into())).or_insert(true);
        *kept &= count == 1;
    }

    fn remove(&mut self, owner: Owner, entry: usize, key: &str) {
        if !self.attributes(owner, entry).is_empty() {
            self.attributes_mut(owner, entry).retain(|it| it.key != key);
        }
        self.touched.insert((owner as usize, entry, key.into()), false);
    }

    /// What a parcel of the chosen spans holds; `all` where they are all that are left.
    pub fn parcel(&self, all: bool, chosen: impl Fn(usize) -> bool) -> ExportTraceServiceRequest {
        let mut out = ExportTraceServiceRequest::default();
        let mut entry = 0;
        let mut scope_entry = 0;
        for (at, resource) in self.request.resource_spans.iter().enumerate() {
            let mut kept = ResourceSpans { scope_spans: vec![], ..resource.clone() };
            if self.is_made_up(Owner::Resource, at) {
                kept.resource = None;
            }
            let had = resource.scope_spans.iter().any(|scope| !scope.spans.is_empty());
            for scope in &resource.scope_spans {
                let mut left = ScopeSpans { spans: vec![], ..scope.clone() };
                if self.is_made_up(Owner::Scope, scope_entry) {
                    left.scope = None;
                }
                scope_entry += 1;
                for span in &scope.spans {
                    if self.live[entry] && chosen(entry) {
                        left.spans.push(span.clone());
                    }
                    entry += 1;
                }
                if !left.spans.is_empty() || (all && scope.spans.is_empty()) {
                    kept.scope_spans.push(left);
                }
            }
            if kept.scope_spans.iter().any(|scope| !scope.spans.is_empty()) || (all && !had) {
                out.resource_spans.push(kept);
            }
        }
        out
    }

    /// An edit made it and another took its only attribute away again.
    fn is_made_up(&self, owner: Owner, entry: usize) -> bool {
        self.absent[owner as usize].contains(&entry) && self.attributes(owner, entry).is_empty()
    }
}

fn any_value(value: &NewValue) -> AnyValue {
    let value = match value {
        NewValue::Text(text) => Value::StringValue(text.clone()),
        NewValue::Boolean(value) => Value::BoolValue(*value),
        NewValue::Int(value) => Value::IntValue(*value),
        NewValue::Double(value) => Value::DoubleValue(*value),
        NewValue::Bytes(bytes) => Value::BytesValue(bytes.clone()),
        NewValue::Nested(content) => return AnyValue::decode(&content[..]).unwrap(),
    };
    AnyValue { value: Some(value) }
}

/// The same request with every list of attributes ordered by key; those of one key stay in order.
pub fn sorted(mut request: ExportTraceServiceRequest) -> ExportTraceServiceRequest {
    let sort = |attributes: &mut Vec<KeyValue>| attributes.sort_by(|a, b| a.key.cmp(&b.key));
    for resource in &mut request.resource_spans {
        resource.resource.iter_mut().for_each(|it| sort(&mut it.attributes));
        for scope in &mut resource.scope_spans {
            scope.scope.iter_mut().for_each(|it| sort(&mut it.attributes));
            for span in &mut scope.spans {
                sort(&mut span.attributes);
                span.events.iter_mut().for_each(|it| sort(&mut it.attributes));
                span.links.iter_mut().for_each(|it| sort(&mut it.attributes));
            }
        }
    }
    request
}
