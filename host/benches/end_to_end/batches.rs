//! The load: export requests as an SDK in front of a web shop would send them,
//! the same ones in every run.

use anyhow::Result;
use bytes::{BufMut, Bytes, BytesMut};
use fastrand::Rng;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Event};
use prost::Message;

pub const SPANS: u64 = 512;
/// Together they exceed a core's caches, so that none is measured out of those.
const BATCHES: u64 = 32;
const SPANS_PER_TRACE: u64 = 8;
const SEED: u64 = 0x5eed;

/// What an attribute holds.
enum Part {
    Text(&'static str),
    OneOf(&'static [&'static str]),
    /// The prefix and a random number.
    Numbered(&'static str),
    Email,
    Int(i64, i64),
}

use Part::{Email, Int, Numbered, OneOf, Text};

struct Template {
    name: &'static str,
    kind: i32,
    scope: usize,
    attributes: &'static [(&'static str, Part)],
}

const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

const SCOPES: [&str; 3] =
    ["io.opentelemetry.http-server-5.0", "io.opentelemetry.database-client", "com.example.shop.instrumentation"];

const ANSWERS: Part = OneOf(&["200", "200", "200", "201", "204"]);
const AGENTS: Part = OneOf(&[
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 15_5) AppleWebKit/605.1.15",
    "okhttp/5.1.0",
    "python-requests/2.32.4",
]);
const THREADS: Part = OneOf(&["http-nio-8080-exec-14", "http-nio-8080-exec-3", "shop-worker-pool-27"]);
const PEERS: Part = OneOf(&["10.4.17.23", "10.4.18.201", "10.4.3.9", "10.4.101.77"]);

const TEMPLATES: [Template; 12] = [
    Template {
        name: "GET /orders/{id}",
        kind: SERVER,
        scope: 0,
        attributes: &[
            ("http.request.method", Text("GET")),
            ("http.route", Text("/orders/{id}")),
            ("url.path", Numbered("/orders/")),
            ("url.scheme", Text("https")),
            ("http.response.status_code", Int(200, 204)),
            ("user_agent.original", AGENTS),
            ("network.peer.address", PEERS),
            ("thread.name", THREADS),
        ],
    },
    Template {
        name: "POST /orders",
        kind: SERVER,
        scope: 0,
        attributes: &[
            ("http.request.method", Text("POST")),
            ("http.route", Text("/orders")),
            ("url.path", Text("/orders")),
            ("http.response.status_code", Int(201, 201)),
            ("http.request.body.size", Int(200, 20_000)),
            ("user_agent.original", AGENTS),
            ("user.email", Email),
            ("thread.name", THREADS),
        ],
    },
    Template {
        name: "GET /products",
        kind: SERVER,
        scope: 0,
        attributes: &[
            ("http.request.method", Text("GET")),
            ("http.route", Text("/products")),
            ("url.path", Text("/products")),
            ("url.query", Numbered("category=garden&sort=price&page=")),
            ("http.response.status_code", Int(200, 200)),
            ("user_agent.original", AGENTS),
            ("network.peer.address", PEERS),
            ("thread.name", THREADS),
        ],
    },
    Template {
        name: "PUT /cart/{id}/items",
        kind: SERVER,
        scope: 0,
        attributes: &[
            ("http.request.method", Text("PUT")),
            ("http.route", Text("/cart/{id}/items")),
            ("url.path", Numbered("/cart/items/")),
            ("http.response.status_code", Int(200, 204)),
            ("server.address", Text("cart.shop.example")),
            ("server.port", Int(8080, 8080)),
            ("user_agent.original", AGENTS),
            ("network.peer.address", PEERS),
        ],
    },
    Template {
        name: "GET",
        kind: CLIENT,
        scope: 0,
        attributes: &[
            ("http.request.method", Text("GET")),
            ("url.full", Numbered("https://pricing.shop.example/v2/prices?currency=EUR&product=")),
            ("server.address", Text("pricing.shop.example")),
            ("server.port", Int(443, 443)),
            ("http.response.status_code", Int(200, 200)),
            ("network.protocol.version", Text("1.1")),
            ("shop.price.tier", OneOf(&["standard", "wholesale", "employee"])),
            ("thread.name", THREADS),
        ],
    },
    Template {
        name: "SELECT shop.orders",
        kind: CLIENT,
        scope: 1,
        attributes: &[
            ("db.system.name", Text("postgresql")),
            ("db.namespace", Text("shop")),
            ("db.collection.name", Text("orders")),
            ("db.operation.name", Text("SELECT")),
            ("db.query.text", Text("SELECT id, state, total FROM orders WHERE id = $1 AND tenant = $2")),
            ("server.address", Text("orders-db.shop.svc")),
            ("server.port", Int(5432, 5432)),
            ("thread.name", THREADS),
        ],
    },
    Template {
        name: "INSERT shop.order_items",
        kind: CLIENT,
        scope: 1,
        attributes: &[
            ("db.system.name", Text("postgresql")),
            ("db.namespace", Text("shop")),
            ("db.collection.name", Text("order_items")),
            ("db.operation.name", Text("INSERT")),
            ("db.query.text", Text("INSERT INTO order_items (order_id, product, amount) VALUES ($1, $2, $3)")),
            ("server.address", Text("orders-db.shop.svc")),
            ("db.response.returned_rows", Int(1, 40)),
            ("thread.name", THREADS),
        ],
    },
    Template {
        name: "HGETALL",
        kind: CLIENT,
        scope: 1,
        attributes: &[
            ("db.system.name", Text("redis")),
            ("db.operation.name", Text("HGETALL")),
            ("db.query.text", Numbered("HGETALL session:")),
            ("server.address", Text("sessions.shop.svc.cluster.local")),
            ("server.port", Int(6379, 6379)),
            ("network.peer.address", PEERS),
            ("session.id", Numbered("s-")),
            ("shop.cache.state", OneOf(&["hit", "hit", "hit", "miss"])),
        ],
    },
    Template {
        name: "orders publish",
        kind: PRODUCER,
        scope: 2,
        attributes: &[
            ("messaging.system", Text("kafka")),
            ("messaging.destination.name", Text("orders")),
            ("messaging.operation.type", Text("send")),
            ("messaging.client.id", Text("checkout-producer-3")),
            ("messaging.destination.partition.id", OneOf(&["0", "1", "2", "3", "4", "5"])),
            ("messaging.message.body.size", Int(300, 4_000)),
            ("messaging.kafka.message.key", Numbered("order-")),
            ("thread.name", THREADS),
        ],
    },
    Template {
        name: "orders process",
        kind: CONSUMER,
        scope: 2,
        attributes: &[
            ("messaging.system", Text("kafka")),
            ("messaging.destination.name", Text("orders")),
            ("messaging.operation.type", Text("process")),
            ("messaging.consumer.group.name", Text("shipping")),
            ("messaging.kafka.offset", Int(1_000_000, 90_000_000)),
            ("messaging.message.id", Numbered("m-")),
            ("shop.customer.email", Email),
            ("thread.name", THREADS),
        ],
    },
    Template {
        name: "charge card",
        kind: INTERNAL,
        scope: 2,
        attributes: &[
            ("code.function.name", Text("com.example.shop.payment.CardService.charge")),
            ("thread.name", THREADS),
            ("thread.id", Int(20, 90)),
            ("shop.payment.provider", OneOf(&["acme-pay", "cardly"])),
            ("shop.payment.amount", Int(100, 100_000)),
            ("shop.payment.answer", ANSWERS),
            ("shop.order.id", Numbered("order-")),
        ],
    },
    Template {
        name: "render template",
        kind: INTERNAL,
        scope: 2,
        attributes: &[
            ("code.function.name", Text("com.example.shop.web.TemplateRenderer.render")),
            ("thread.name", THREADS),
            ("thread.id", Int(20, 90)),
            ("shop.template.name", OneOf(&["order/confirmation.html", "product/list.html", "cart/overview.html"])),
            ("shop.template.locale", OneOf(&["de-DE", "en-GB", "fr-FR"])),
            ("shop.template.bytes", Int(2_000, 90_000)),
        ],
    },
];

/// The requests, each with gRPC's prefix before it.
pub fn prepare() -> Result<Vec<Bytes>> {
    let mut random = Rng::with_seed(SEED);
    (0..BATCHES)
        .map(|number| {
            let request = request(number, &mut random);
            let length = request.encoded_len();
            let mut bytes = BytesMut::with_capacity(5 + length);
            bytes.put_u8(0);
            bytes.put_u32(length as u32);
            request.encode(&mut bytes)?;
            Ok(bytes.freeze())
        })
        .collect()
}

fn request(number: u64, random: &mut Rng) -> ExportTraceServiceRequest {
    let mut scope_spans: Vec<ScopeSpans> = SCOPES.iter().map(|name| scope(name)).collect();
    let mut trace = Trace::start(random);
    for position in 0..SPANS {
        if position.is_multiple_of(SPANS_PER_TRACE) {
            trace = Trace::start(random);
        }
        let template = &TEMPLATES[random.usize(..TEMPLATES.len())];
        scope_spans[template.scope].spans.push(trace.span(template, random));
    }
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource(number)),
            scope_spans,
            schema_url: String::new(),
        }],
    }
}

fn scope(name: &str) -> ScopeSpans {
    let scope = InstrumentationScope { name: name.to_owned(), version: "2.18.1".to_owned(), ..Default::default() };
    ScopeSpans { scope: Some(scope), ..Default::default() }
}

fn resource(number: u64) -> Resource {
    let service = ["checkout", "catalogue", "shipping", "payment"][number as usize % 4];
    let attributes = [
        ("service.name", service.to_owned()),
        ("service.namespace", "shop".to_owned()),
        ("service.version", "4.12.0".to_owned()),
        ("service.instance.id", format!("{service}-7d9f6c5b8-{number:05}")),
        ("k8s.namespace.name", "production".to_owned()),
        ("k8s.node.name", format!("node-{}.eu-central-1.internal", number % 7)),
        ("telemetry.sdk.language", "java".to_owned()),
        ("telemetry.sdk.name", "opentelemetry".to_owned()),
        ("telemetry.sdk.version", "1.52.0".to_owned()),
    ];
    let attributes = attributes.into_iter().map(|(key, text)| attribute(key, any_value::Value::StringValue(text)));
    Resource { attributes: attributes.collect(), ..Default::default() }
}

/// The trace that spans are being added to.
struct Trace {
    id: [u8; 16],
    parent: Vec<u8>,
    clock: u64,
}

impl Trace {
    fn start(random: &mut Rng) -> Self {
        let clock = 1_760_000_000_000_000_000 + random.u64(..1_000_000_000);
        Self { id: random.u128(1..).to_be_bytes(), parent: Vec::new(), clock }
    }

    fn span(&mut self, template: &Template, random: &mut Rng) -> Span {
        let id = random.u64(1..).to_be_bytes().to_vec();
        self.clock += random.u64(1_000..500_000);
        let failed = random.u8(..50) == 0;
        Span {
            trace_id: self.id.to_vec(),
            parent_span_id: std::mem::replace(&mut self.parent, id.clone()),
            span_id: id,
            name: template.name.to_owned(),
            kind: template.kind,
            flags: 0x101,
            start_time_unix_nano: self.clock,
            end_time_unix_nano: self.clock + random.u64(50_000..80_000_000),
            attributes: template.attributes.iter().map(|(key, part)| attribute(key, part.value(random))).collect(),
            events: failed.then(|| exception(self.clock + 40_000)).into_iter().collect(),
            status: Some(Status { code: if failed { 2 } else { 0 }, ..Default::default() }),
            ..Default::default()
        }
    }
}

fn exception(time_unix_nano: u64) -> Event {
    let attributes = [
        ("exception.type", "java.util.concurrent.TimeoutException"),
        ("exception.message", "no answer from orders-db.shop.svc within 250 ms"),
        (
            "exception.stacktrace",
            "java.util.concurrent.TimeoutException: no answer from orders-db.shop.svc within 250 ms\n\
             \tat com.example.shop.orders.OrderStore.load(OrderStore.java:118)\n\
             \tat com.example.shop.orders.OrderController.show(OrderController.java:64)\n",
        ),
    ];
    let text = |text: &str| any_value::Value::StringValue(text.to_owned());
    Event {
        time_unix_nano,
        name: "exception".to_owned(),
        attributes: attributes.iter().map(|(key, value)| attribute(key, text(value))).collect(),
        ..Default::default()
    }
}

impl Part {
    fn value(&self, random: &mut Rng) -> any_value::Value {
        let text = match self {
            Text(text) => (*text).to_owned(),
            OneOf(texts) => texts[random.usize(..texts.len())].to_owned(),
            Numbered(prefix) => format!("{prefix}{}", random.u32(1_000_000..)),
            Email => format!("customer.{}@mail.example", random.u32(1_000..99_999)),
            Int(least, most) => return any_value::Value::IntValue(random.i64(*least..=*most)),
        };
        any_value::Value::StringValue(text)
    }
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}
