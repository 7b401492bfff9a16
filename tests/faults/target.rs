//! A destination that goes and comes back on one port, and knows what it has.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use tokio::net::TcpSocket;

use crate::support::sink::Received;
use crate::support::spans::all;
use crate::support::{Reply, Sink, runtime};

use super::loader::number_of;
use super::plan::{Wire, is_too_large};

pub struct Target {
    pub address: SocketAddr,
    /// Keeps the port while nobody listens.
    _port: TcpSocket,
    wire: Wire,
    seed: u64,
    /// All that there were; the last one may be there still.
    sinks: Vec<Sink>,
    is_up: bool,
    /// Of the last one, so many requests came before something after which they may come again.
    forgiven: usize,
}

/// What a destination has.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// How often each span came and was taken.
    pub spans: HashMap<u64, usize>,
    /// Spans that it refused for good.
    pub refused: HashSet<u64>,
    /// Spans that may come again: nobody knows whether their answer was heard.
    pub forgiven: HashSet<u64>,
}

/// What becomes of a request.
enum Fate {
    /// All but so many of its first spans are taken.
    Taken(usize),
    NotNow,
    Never,
}

fn socket(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    // Several of our own may have the port; only those that listen get connections.
    socket.set_reuseport(true).unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

impl Target {
    pub fn start(wire: Wire, seed: u64) -> Self {
        let port = socket(([127, 0, 0, 1], 0).into());
        let address = port.local_addr().unwrap();
        let mut target = Self { address, _port: port, wire, seed, sinks: vec![], is_up: false, forgiven: 0 };
        target.up();
        target
    }

    pub fn up(&mut self) {
        if !self.is_up {
            let _inside = runtime().enter();
            self.sinks.push(Sink::on(socket(self.address).listen(64).unwrap(), None));
            (self.is_up, self.forgiven) = (true, 0);
        }
    }

    pub fn down(&mut self) {
        if let (true, Some(sink)) = (self.is_up, self.sinks.last()) {
            sink.stop();
            self.is_up = false;
        }
    }

    pub fn answer_next(&self, replies: Vec<Reply>) {
        if let Some(sink) = self.sinks.last() {
            sink.answer_next(replies);
        }
    }

    /// What it has now may come again.
    pub fn forgive(&mut self) {
        self.forgiven = self.sinks.last().map_or(0, |sink| sink.received().len());
    }

    pub fn arrivals(&self) -> Arrivals {
        let mut arrivals = Arrivals::default();
        for (number, sink) in self.sinks.iter().enumerate() {
            // Where it went away, nobody knows which of its answers were heard.
            let is_last = number + 1 == self.sinks.len() && self.is_up;
            let forgiven = if is_last { self.forgiven } else { usize::MAX };
            for (number, received) in sink.received().iter().enumerate() {
                self.count(received, number < forgiven, &mut arrivals);
            }
        }
        arrivals
    }

    fn count(&self, received: &Received, is_forgiven: bool, arrivals: &mut Arrivals) {
        let request = received.request();
        let number = |span| number_of(span, self.seed).expect("all spans are those of the run");
        let spans: Vec<u64> = all(&request).into_iter().map(number).collect();
        let (refused, taken) = match self.fate(&received.reply, spans.len()) {
            Fate::Taken(but) => spans.split_at(but),
            Fate::Never => (spans.as_slice(), [].as_slice()),
            Fate::NotNow => return,
        };
        arrivals.refused.extend(refused);
        if is_forgiven || matches!(received.reply, Reply::Delayed(_)) {
            arrivals.forgiven.extend(taken);
        }
        for span in taken {
            *arrivals.spans.entry(*span).or_default() += 1;
        }
    }

    fn fate(&self, reply: &Reply, spans: usize) -> Fate {
        match reply {
            Reply::Accept | Reply::Delayed(_) => Fate::Taken(0),
            Reply::Partial { rejected, .. } => Fate::Taken((*rejected as usize).min(spans)),
            Reply::HangUp => Fate::NotNow,
            Reply::Status { grpc, message, .. } if is_too_large(message) && (*grpc == 8 || self.wire == Wire::Http) => {
                if spans > 1 {
                    Fate::NotNow
                } else {
                    Fate::Never
                }
            }
            Reply::Status { grpc, http, .. } => {
                let is_retryable = match self.wire {
                    Wire::Grpc => matches!(grpc, 1 | 4 | 8 | 10 | 11 | 14 | 15),
                    Wire::Http => matches!(http, 429 | 502..=504),
                };
                if is_retryable { Fate::NotNow } else { Fate::Never }
            }
            other => panic!("no plan has {other:?}"),
        }
    }
}
