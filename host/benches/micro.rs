//! What each step costs per span, beside prost doing the same on decoded structs.
//!
//!     cargo bench --bench micro
//!     cargo bench --bench micro -- heavy-512/index

#[path = "end_to_end/batches.rs"]
mod batches;
#[path = "end_to_end/guest.rs"]
mod guest;

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use vespid::component::Processor as _;
use vespid::plugin::{Clockwork, Limits, Module, OnError, PluginSettings, Source};
use vespid::telemetry::{Held, Metrics, Traces};
use vespid::traces::{
    Batch, Context, Edit, Index, Message, NewValue, Owner, Parcel, Texts, decode_request, encode_request, split,
};
use vespid::transport::compress::{Codec, Compression};

criterion_group!(benches, traces, codecs, plugins, account);
criterion_main!(benches);

type Group<'a> = BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn traces(criterion: &mut Criterion) {
    for (name, spans, weight) in [
        ("heavy-512", 512, Weight::Heavy),
        ("heavy-1000", 1000, Weight::Heavy),
        ("light-512", 512, Weight::Light),
        ("light-1000", 1000, Weight::Light),
    ] {
        let wire = request(spans, weight).encode_to_vec();
        println!("{name}: {} bytes a span", wire.len() / spans);
        let message = Message::copy_of(&wire);
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(spans as u64));
        ours(&mut group, &message, spans);
        json(&mut group, &message);
        native(&mut group, &wire);
        group.finish();
    }
}

/// Whole requests of the end-to-end benchmark, packed and unpacked at our own
/// choice of level and at what SDKs use; beside them what the stream coders take.
fn codecs(criterion: &mut Criterion) {
    let framed = batches::prepare().expect("the load can be made").swap_remove(0);
    let message = framed.slice(vespid::traces::PREFIX..);
    let mut group = criterion.benchmark_group("codecs");
    group.throughput(Throughput::Elements(batches::SPANS));
    for (name, codec, level) in [
        ("gzip", Codec::Gzip, None),
        ("gzip-6", Codec::Gzip, Some(6)),
        ("zstd", Codec::Zstd, None),
        ("zstd-3", Codec::Zstd, Some(3)),
        ("snappy", Codec::SnappyFramed, None),
        ("lz4", Codec::Lz4, None),
    ] {
        let compression = Compression { codec, level };
        let pack = || {
            let mut out = vec![];
            compression.compress(&message, &mut out).expect("memory to memory");
            out
        };
        let packed = pack();
        println!("{name}: {:.1} bytes a span of {}", packed.len() as f64 / 512.0, message.len() / 512);
        group.bench_function(format!("{name}-pack"), |bencher| bencher.iter(pack));
        group.bench_function(format!("{name}-unpack"), |bencher| {
            bencher.iter(|| {
                let mut out = vec![];
                codec.decompress(&packed, &mut out, 64 << 20, &mut |_| true).expect("it was packed here");
                out
            });
        });
    }
    group.bench_function("gzip-stream-pack", |bencher| {
        bencher.iter(|| {
            let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
            std::io::Write::write_all(&mut encoder, &message).expect("memory to memory");
            encoder.finish()
        });
    });
    group.finish();
}

/// A call of a plugin on an indexed batch: its reads, its edits, and their place
/// in the overlay; with the splice in the rows that say so.
fn plugins(criterion: &mut Criterion) {
    // The executable is in `<target>/release/deps`.
    let executable = std::env::current_exe().expect("the benchmark has a path");
    let target = executable.ancestors().nth(3).expect("it is in a target folder");
    let module = guest::build_guest(Path::new(target), "bench-guest").expect("the plugin can be built");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let clockwork = Arc::new(Clockwork::new().expect("an engine"));
    let metrics = Metrics::default();
    for (shape, weight) in [("plugin-heavy-512", Weight::Heavy), ("plugin-light-512", Weight::Light)] {
        let message = Message::copy_of(&request(512, weight).encode_to_vec());
        let receive = || {
            let received = Batch::receive(message.clone(), Arc::default(), true);
            received.expect("the request is valid").0
        };
        let mut group = criterion.benchmark_group(shape);
        group.throughput(Throughput::Elements(512));
        for (name, config) in [
            ("copy", r#"{"mode": "copy", "read": "http.route", "set": "seen.route"}"#),
            ("mask", r#"{"mode": "mask"}"#),
            ("drop", r#"{"mode": "drop"}"#),
        ] {
            let settings = PluginSettings {
                module: Source::File(module.clone()),
                digest: None,
                config: config.into(),
                on_error: OnError::Pass,
                limits: Limits { deadline: Duration::from_millis(100), memory: 64 << 20 },
                log_rate: 10,
            };
            let loaded = Module::load(&clockwork, name.into(), settings).expect("the plugin loads");
            let plugin = runtime.block_on(loaded.plugin("traces", &metrics, 1)).expect("the plugin starts");
            let call = |batch| runtime.block_on(plugin.process(batch)).expect("the plugin does not fail");
            group.bench_function(name, |bencher| bencher.iter_batched(receive, call, BatchSize::LargeInput));
            let splice = |batch| call(batch).finish();
            let name = format!("{name}-splice");
            group.bench_function(name, |bencher| bencher.iter_batched(receive, splice, BatchSize::LargeInput));
        }
        group.finish();
    }
}

/// What the account takes of a batch on its way: in and out, and once more for each
/// further destination. `batch-traces` is 512 spans of as many traces, each remembered.
fn account(criterion: &mut Criterion) {
    let metrics = Metrics::default();
    let (receiver, exporter) = (metrics.receiver("otlp", "grpc").clerk, metrics.exporter("otlp").clerk);
    let marks: Vec<u64> = (0..512).map(|number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let mut group = criterion.benchmark_group("account");
    for (name, marks) in [("batch", &marks[..1]), ("batch-traces", &marks[..])] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut held = Held::of(512, Traces::of(marks));
                held.received(&receiver, &[]);
                held.at(&exporter);
                held.sent(&exporter, 512);
            });
        });
    }
    // What the walk does for it: with every span of another trace, which is the worst.
    let ids: Vec<[u8; 16]> = marks.iter().map(|mark| (u128::from(*mark) << 64 | 1).to_be_bytes()).collect();
    group.bench_function("marks", |bencher| {
        bencher.iter(|| {
            let mut marks: Vec<u64> = vec![];
            for id in black_box(&ids) {
                let mark = Traces::mark(*id);
                if marks.last() != Some(&mark) {
                    marks.push(mark);
                }
            }
            Traces::of(&marks)
        });
    });
    let mut held = Held::of(512, Traces::of(&marks));
    held.received(&receiver, &[]);
    group.bench_function("copy", |bencher| bencher.iter(|| held.clone().sent(&exporter, 512)));
    group.finish();
}

fn ours(group: &mut Group, message: &Message, spans: usize) {
    let context = Arc::new(Context::default());
    let receive = |indexed: bool| {
        let received = Batch::receive(message.clone(), Arc::clone(&context), indexed);
        received.expect("the request is valid").0
    };
    group.bench_function("validate", |bencher| bencher.iter(|| receive(false)));
    group.bench_function("index", |bencher| bencher.iter(|| receive(true)));
    let batch = receive(true);
    let index = batch.indexed().expect("it was indexed");
    group.bench_function("read-columns", |bencher| {
        bencher.iter(|| {
            black_box((index.trace_ids(), index.names(), index.durations(), index.status_codes()));
            black_box((index.text_attribute(Owner::Span, "url.path"), index.resource_rows()))
        });
    });
    group.bench_function("find-text", |bencher| bencher.iter(|| index.find_text(Owner::Span, "@")));
    for (name, key) in [("index-replace-splice", "http.route"), ("index-add-splice", "team")] {
        group.bench_function(name, |bencher| bencher.iter(|| edited(receive(true), |index| set(index, key))));
    }
    group.bench_function("index-mask-splice", |bencher| bencher.iter(|| edited(receive(true), mask)));
    group.bench_function("index-drop-splice", |bencher| bencher.iter(|| edited(receive(true), drop_every_other)));
    for limit in [spans / 2, spans / 10] {
        let name = BenchmarkId::new("split", limit);
        group.bench_function(name, |bencher| bencher.iter(|| split(message, limit, usize::MAX)));
    }
}

/// OTLP JSON in and out, beside the same text as a tree.
fn json(group: &mut Group, message: &Message) {
    let json = encode_request(message).expect("the request is valid");
    group.bench_function("json-decode", |bencher| bencher.iter(|| decode_request(&json, usize::MAX)));
    group.bench_function("json-encode", |bencher| bencher.iter(|| encode_request(message)));
    let tree = || serde_json::from_slice::<serde_json::Value>(&json).expect("it is JSON");
    group.bench_function("json-decode-tree", |bencher| bencher.iter(tree));
    let tree = tree();
    group.bench_function("json-encode-tree", |bencher| bencher.iter(|| serde_json::to_vec(&tree)));
}

fn edited(mut batch: Batch, edits: impl Fn(&Index) -> Vec<Edit>) -> Vec<Parcel> {
    let edits = batch.indexed().map(edits).unwrap_or_default();
    batch.apply(edits).expect("the batch is valid");
    batch.finish()
}

fn entries(index: &Index, rows: impl Iterator<Item = usize>) -> Vec<u32> {
    rows.filter_map(|row| index.entry(Owner::Span, row)).map(|entry| entry as u32).collect()
}

fn set(index: &Index, key: &str) -> Vec<Edit> {
    let entries = entries(index, 0..index.count(Owner::Span));
    vec![Edit::Set { owner: Owner::Span, entries, key: key.into(), value: NewValue::Text("payments".into()) }]
}

fn drop_every_other(index: &Index) -> Vec<Edit> {
    let entries = entries(index, (0..index.count(Owner::Span)).step_by(2));
    vec![Edit::Drop { entries, reason: "sampled".into() }]
}

/// Masks every text that holds an `@`, as a redacting plugin would.
fn mask(index: &Index) -> Vec<Edit> {
    let found = index.find_text(Owner::Span, "@").into_iter();
    found
        .map(|column| {
            let mut texts = Texts { codes: column.codes, ..Texts::default() };
            for code in 0..column.dictionary.ends.len() {
                let text = column.dictionary.get(code).unwrap_or_default();
                texts.data.extend_from_slice(masked(text).as_bytes());
                texts.ends.push(texts.data.len() as u32);
            }
            let entries = entries(index, column.rows.iter().map(|&row| row as usize));
            Edit::SetTexts { owner: Owner::Span, entries, key: column.key, texts }
        })
        .collect()
}

fn masked(text: &str) -> String {
    text.split_once('@').map_or_else(String::new, |(_, domain)| format!("***@{domain}"))
}

fn native(group: &mut Group, wire: &[u8]) {
    let decode = || ExportTraceServiceRequest::decode(wire).expect("the request is valid");
    group.bench_function("prost-decode", |bencher| bencher.iter(decode));
    group.bench_function("prost-decode-encode", |bencher| bencher.iter(|| decode().encode_to_vec()));
    group.bench_function("prost-decode-replace-encode", |bencher| {
        bencher.iter(|| native_edit(decode(), |span| native_set(span, "http.route")))
    });
    group.bench_function("prost-decode-add-encode", |bencher| {
        bencher.iter(|| native_edit(decode(), |span| native_set(span, "team")))
    });
    group.bench_function("prost-decode-mask-encode", |bencher| {
        bencher.iter(|| native_edit(decode(), native_mask));
    });
}

fn native_edit(mut request: ExportTraceServiceRequest, mut edit: impl FnMut(&mut Span)) -> Vec<u8> {
    let scopes = request.resource_spans.iter_mut().flat_map(|resource| &mut resource.scope_spans);
    scopes.flat_map(|scope| &mut scope.spans).for_each(&mut edit);
    request.encode_to_vec()
}

fn native_set(span: &mut Span, key: &str) {
    let value = text("payments");
    match span.attributes.iter_mut().find(|attribute| attribute.key == key) {
        Some(attribute) => attribute.value = Some(value),
        None => span.attributes.push(KeyValue { key: key.into(), value: Some(value), ..KeyValue::default() }),
    }
}

fn native_mask(span: &mut Span) {
    for attribute in &mut span.attributes {
        if let Some(AnyValue { value: Some(Value::StringValue(text)) }) = &mut attribute.value
            && text.contains('@')
        {
            *text = masked(text);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// Twelve attributes and an event, as a server span of an HTTP framework has.
    Heavy,
    /// Four attributes.
    Light,
}

fn request(spans: usize, weight: Weight) -> ExportTraceServiceRequest {
    let per_scope = spans.div_ceil(4);
    let scope_spans = |first: usize| ScopeSpans {
        scope: Some(InstrumentationScope { name: "http-server".into(), version: "1.4.0".into(), ..Default::default() }),
        spans: (first..spans.min(first + per_scope)).map(|number| span(number as u64, weight)).collect(),
        schema_url: String::new(),
    };
    let resource = Resource {
        attributes: vec![
            attribute("service.name", text("checkout")),
            attribute("service.version", text("2.7.1")),
            attribute("host.name", text("node-17.internal")),
        ],
        ..Default::default()
    };
    let scope_spans = (0..spans).step_by(per_scope).map(scope_spans).collect();
    let resource_spans = ResourceSpans {
        resource: Some(resource),
        scope_spans,
        schema_url: "https://opentelemetry.io/schemas/1.37.0".into(),
    };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}

fn span(number: u64, weight: Weight) -> Span {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let start = 1_780_000_000_000_000_000 + number * 1_000;
    let mut attributes = vec![
        attribute("http.request.method", text(if number.is_multiple_of(3) { "POST" } else { "GET" })),
        attribute("http.response.status_code", int(200)),
        attribute("url.path", text(&format!("/api/v1/orders/{}", mixed % 10_000))),
        attribute("http.route", text("/api/v1/orders/{id}")),
    ];
    let mut events = vec![];
    if weight == Weight::Heavy {
        attributes.extend([
            attribute("url.scheme", text("https")),
            attribute("server.address", text("shop.example.org")),
            attribute("server.port", int(443)),
            attribute("network.protocol.version", text("1.1")),
            attribute("client.address", text(&format!("10.1.{}.{}", mixed >> 56, mixed >> 48 & 0xff))),
            attribute("user_agent.original", text("Mozilla/5.0 (X11; Linux x86_64; rv:128.0)")),
            attribute("user.email", text(&format!("customer-{}@example.org", mixed % 1000))),
            attribute("thread.id", int(number as i64 % 16)),
        ]);
        events.push(Event {
            time_unix_nano: start + 500,
            name: "message".into(),
            attributes: vec![attribute("message.type", text("SENT")), attribute("message.id", int(1))],
            dropped_attributes_count: 0,
        });
    }
    Span {
        trace_id: (u128::from(mixed) << 64 | u128::from(number / 8 + 1)).to_be_bytes().into(),
        span_id: mixed.to_be_bytes().into(),
        parent_span_id: (mixed ^ 1).to_be_bytes().into(),
        flags: 0x101,
        name: "GET /api/v1/orders/{id}".into(),
        kind: 2,
        start_time_unix_nano: start,
        end_time_unix_nano: start + 1_500_000,
        attributes,
        events,
        status: Some(Status::default()),
        ..Default::default()
    }
}

fn attribute(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.into(), value: Some(value), ..Default::default() }
}

fn text(text: &str) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text.into())) }
}

fn int(number: i64) -> AnyValue {
    AnyValue { value: Some(Value::IntValue(number)) }
}
