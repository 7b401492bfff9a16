//! What happens in one run, all of it made of one number.

use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use crate::support::config::with;
use crate::support::{Reply, Setup};

use super::damage::Damage;

/// When a sender gets its OK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Without a queue: when the destination has its spans.
    Direct,
    /// The same, with a queue of those who wait.
    Waiting,
    /// When its spans are in the queue in memory.
    Early,
    /// When its spans are on the disk.
    Persistent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Grpc,
    Http,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batching {
    /// The processor of that name.
    Processor { most: usize },
    /// `sending_queue.batch`.
    Queue { most: usize },
}

impl Batching {
    /// Whether a request's spans may leave in several batches.
    pub fn cuts(self) -> bool {
        let (Self::Processor { most } | Self::Queue { most }) = self;
        most > 0
    }
}

#[derive(Debug, Clone)]
pub enum Fault {
    /// SIGKILL, what is done to the files meanwhile, and another start.
    Kill(Vec<Damage>),
    /// SIGTERM, and another start.
    Terminate,
    /// SIGHUP with another config.
    Reload,
    /// A destination goes away, with all its connections.
    Down(usize),
    Up(usize),
    /// A destination's next answers.
    Answers(usize, Vec<Reply>),
    /// Something else takes all room on the disk.
    FillDisk,
    FreeDisk,
}

#[derive(Debug, Clone)]
pub struct Step {
    /// So many requests were acknowledged since the last step.
    pub after: usize,
    pub fault: Fault,
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub mode: Mode,
    pub incoming: Wire,
    pub outgoing: Wire,
    pub batching: Option<Batching>,
    pub destinations: usize,
    pub senders: usize,
    /// Requests of each sender.
    pub requests: usize,
    /// A request has at most so many spans, each at most so many bytes larger than it need be.
    pub spans: usize,
    pub filler: usize,
    /// How long the exporter waits for an answer.
    pub timeout: Duration,
    /// How long the exporter tries; zero has no end.
    pub patience: Duration,
    pub small_disk: bool,
    pub steps: Vec<Step>,
}

impl Plan {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mode = match rng.u32(..10) {
            0 => Mode::Direct,
            1..=2 => Mode::Waiting,
            3..=4 => Mode::Early,
            _ => Mode::Persistent,
        };
        let wire = |rng: &mut Rng| if rng.bool() { Wire::Grpc } else { Wire::Http };
        let most = if rng.u32(..3) == 0 { 30 } else { 0 };
        let batching = match rng.u32(..6) {
            0 => Some(Batching::Processor { most }),
            1 if mode != Mode::Direct => Some(Batching::Queue { most }),
            _ => None,
        };
        let gives_up = mode < Mode::Early && rng.u32(..3) == 0;
        let mut plan = Self {
            seed,
            mode,
            incoming: wire(&mut rng),
            outgoing: wire(&mut rng),
            batching,
            destinations: rng.usize(1..=2),
            senders: rng.usize(1..=4),
            requests: rng.usize(5..=25),
            spans: rng.usize(1..=20),
            filler: [0, 50, 2000][rng.usize(..3)],
            timeout: Duration::from_millis([1000, 5000][rng.usize(..2)]),
            patience: if gives_up { Duration::from_millis(300) } else { Duration::ZERO },
            small_disk: mode == Mode::Persistent && rng.u32(..4) == 0,
            steps: vec![],
        };
        plan.steps = steps(&mut rng, &plan);
        plan
    }

    /// Whether some answer asks for smaller requests.
    fn splits(&self) -> bool {
        let is_split = |reply: &Reply| matches!(reply, Reply::Status { message, .. } if is_too_large(message));
        let answers = self.steps.iter().filter_map(|step| match &step.fault {
            Fault::Answers(_, replies) => Some(replies),
            _ => None,
        });
        answers.flatten().any(is_split)
    }

    /// Whether a part of a request may be delivered while the rest of it is not.
    pub fn has_parts(&self) -> bool {
        self.splits() || self.batching.is_some_and(Batching::cuts)
    }

    pub fn has(&self, is_it: impl Fn(&Fault) -> bool) -> bool {
        self.steps.iter().any(|step| is_it(&step.fault))
    }

    /// The exporters' ids, in the order of their destinations.
    pub fn exporters(&self, grpc: &str, http: &str) -> Vec<String> {
        let kind = if self.outgoing == Wire::Grpc { grpc } else { http };
        (0..self.destinations).map(|number| format!("{kind}/{number}")).collect()
    }

    /// A collector's config. Reloaded configs say other things that make no difference.
    pub fn setup(&self, targets: &[String], folder: &Path, reload: usize) -> Setup {
        let mut setup = Setup::new();
        if self.mode == Mode::Persistent {
            setup = setup
                .set("extensions.file_storage", json!({"directory": folder}))
                .set("service.extensions", json!(["health_check", "file_storage"]));
        }
        if let Some(batch) = self.batch_processor() {
            setup = setup.processor("batch", batch);
        }
        for (id, address) in self.exporters("otlp", "otlphttp").iter().zip(targets) {
            setup = setup.exporter(id, self.exporter(address, reload));
        }
        setup
    }

    pub fn batch_processor(&self) -> Option<Value> {
        let Some(Batching::Processor { most }) = self.batching else { return None };
        Some(json!({"timeout": "20ms", "send_batch_size": 25, "send_batch_max_size": most}))
    }

    /// The keys that both the Collector and Vespid have.
    pub fn exporter(&self, address: &str, reload: usize) -> Value {
        let retry = json!({
            "initial_interval": "10ms", "max_interval": "50ms",
            "max_elapsed_time": format!("{}ms", self.patience.as_millis()),
        });
        let endpoint = if self.outgoing == Wire::Grpc { address.to_owned() } else { format!("http://{address}") };
        let timeout = format!("{}ms", self.timeout.as_millis());
        let mut settings = json!({
            "endpoint": endpoint, "tls": {"insecure": true}, "retry_on_failure": retry, "timeout": timeout,
        });
        let mut queue = json!({"num_consumers": 4 + reload, "queue_size": 1000});
        match self.mode {
            Mode::Direct => queue = json!({"enabled": false}),
            Mode::Waiting => queue["wait_for_result"] = json!(true),
            Mode::Early => queue["wait_for_result"] = json!(false),
            Mode::Persistent => queue["storage"] = json!("file_storage"),
        }
        if let Some(Batching::Queue { most }) = self.batching {
            queue["batch"] = json!({"flush_timeout": "20ms", "min_size": 25, "max_size": most, "sizer": "items"});
        }
        if self.mode == Mode::Direct && reload % 2 == 1 {
            settings = with(settings, [("headers", json!({"x-reload": reload.to_string()}))]);
        }
        with(settings, [("sending_queue", queue)])
    }
}

/// What destinations say of requests that go in parts.
pub fn is_too_large(message: &str) -> bool {
    message.contains("larger than max")
        || message.contains("exceeds ingestion limit")
        || message.contains("request body too large")
}

fn steps(rng: &mut Rng, plan: &Plan) -> Vec<Step> {
    let count = rng.usize(1..=4);
    let mut steps = vec![];
    for _ in 0..count {
        let after = rng.usize(0..=plan.senders * plan.requests / (count + 1));
        let which = rng.usize(..plan.destinations);
        let fault = match rng.u32(..16) {
            0..=3 => Fault::Kill(if plan.mode == Mode::Persistent { damages(rng) } else { vec![] }),
            4..=5 => Fault::Terminate,
            6 => Fault::Reload,
            7..=8 => Fault::Down(which),
            9 => Fault::Up(which),
            10 if plan.small_disk => Fault::FillDisk,
            11 if plan.small_disk => Fault::FreeDisk,
            _ => {
                let length = rng.usize(1..=6);
                Fault::Answers(which, (0..length).map(|_| reply(rng)).collect())
            }
        };
        steps.push(Step { after, fault });
    }
    // A small disk that is never full shows nothing.
    if plan.small_disk && !steps.iter().any(|step| matches!(step.fault, Fault::FillDisk)) {
        let after = rng.usize(0..=3);
        steps.insert(rng.usize(..=steps.len()), Step { after, fault: Fault::FillDisk });
    }
    // Nor does a queue that a prompt destination keeps empty.
    if plan.mode == Mode::Persistent && rng.u32(..3) > 0 {
        for which in 0..plan.destinations {
            if rng.bool() {
                let after = rng.usize(..=plan.senders * 2);
                steps.insert(rng.usize(..=steps.len()), Step { after, fault: Fault::Up(which) });
            }
        }
        for which in 0..plan.destinations {
            steps.insert(0, Step { after: 0, fault: Fault::Down(which) });
        }
    }
    steps
}

fn damages(rng: &mut Rng) -> Vec<Damage> {
    let one = |rng: &mut Rng| match rng.u32(..5) {
        0 => Damage::Flip { at: rng.f64(), with: rng.u8(1..) },
        1 => Damage::Cut { bytes: rng.u64(1..400) },
        2 => Damage::Zeros { bytes: rng.usize(1..6000) },
        3 => Damage::Half { part: rng.f64() },
        _ => Damage::FlipSettled { at: rng.f64(), with: rng.u8(1..) },
    };
    // Half of all kills find the files as they were left.
    let count = if rng.bool() { 0 } else { rng.usize(1..=2) };
    let mut damages: Vec<Damage> = (0..count).map(|_| one(rng)).collect();
    // The half of a record is a copy: were it filled up, the queue would hold one number twice.
    if let Some(half) = damages.iter().position(|damage| matches!(damage, Damage::Half { .. })) {
        damages = vec![damages.swap_remove(half)];
    }
    damages
}

/// Something that a destination may answer: every retryable status, what Tempo says,
/// and refusals for good.
fn reply(rng: &mut Rng) -> Reply {
    let status = |grpc, http, message: &str, retry: Option<u64>| Reply::Status {
        grpc,
        http,
        message: message.to_owned(),
        retry: retry.map(Duration::from_millis),
    };
    let rate = "RATE_LIMITED: ingestion rate limit (local: 200 bytes/s, global: 0 bytes/s, burst: 400 bytes) exceeded \
                while adding 90 bytes for user rl.";
    let burst = "RATE_LIMITED: batch size (2126 bytes) exceeds ingestion limit (local: 200 bytes/s, global: 0 bytes/s, \
                 burst: 400 bytes) while adding 2126 bytes for user rl.";
    match rng.u32(..28) {
        0 => status(14, 503, "down", None),
        1 => status(14, 503, "down", Some(100)),
        2 => status(8, 429, "slow down", None),
        3 => status(8, 429, "slow down", Some(150)),
        4 => status(4, 504, "too slow", None),
        5 => status(10, 502, "aborted", None),
        6 => status(1, 503, "canceled", None),
        7 => status(11, 502, "out of range", None),
        8 => status(15, 503, "data loss", None),
        9..=11 => Reply::HangUp,
        12..=13 => Reply::Delayed(Duration::from_millis(rng.u64(1..300))),
        14 => Reply::Delayed(Duration::from_millis(1500)),
        15 => status(8, 429, rate, None),
        16 => status(8, 429, rate, Some(200)),
        17 => status(8, 429, burst, None),
        18 => status(8, 429, burst, Some(100)),
        19 => status(8, 413, "grpc: received message larger than max (5491537 vs. 4194304)", None),
        20 => status(3, 400, "http: request body too large", None),
        21 => status(14, 503, "no org id", None),
        22 => Reply::Partial { rejected: 0, message: "" },
        23 => Reply::Partial { rejected: 1, message: "one is too old" },
        24 => status(3, 400, "trace ids must be 128 bit, received 0 bits", None),
        25 => status(13, 400, "grpc: error unmarshalling request: unmarshal: invalid TraceID length", None),
        26 => status(7, 403, "not yours", None),
        _ => status(16, 401, "who are you?", None),
    }
}
