//! A pipeline: processors in their order, then every exporter and every pipeline
//! that a connector leads to. Its answer is `Ok` once each destination has every
//! span that the processors let through.

mod repeats;

use std::sync::Arc;

use futures_util::future::join_all;

use crate::component::{BoxFuture, ConsumeError, Consumer, Exporter, Outcome, Processor};
use crate::telemetry::{Clerk, reason};
use crate::traces::{Batch, Parcel};

pub use repeats::Repeats;
use repeats::Round;

pub struct Pipeline {
    pub processors: Vec<Box<dyn Processor>>,
    pub exporters: Vec<Destination>,
    /// What connectors lead to.
    pub next: Vec<Arc<FanOut>>,
}

/// An exporter of a pipeline.
pub struct Destination {
    pub exporter: Arc<dyn Exporter>,
    /// What it is remembered by.
    pub number: u32,
    /// Counts what it has already.
    pub clerk: Clerk,
}

impl Destination {
    /// Exports what it does not have yet.
    async fn send(&self, mut parcel: Parcel, round: Option<&Round<'_>>) -> Answer {
        let Some(round) = round else { return self.exporter.export(parcel).await };
        if round.has(self.number, &parcel) {
            let ids = parcel.span_ids();
            parcel.held.dropped(&self.clerk, reason::REPEATED, &ids);
            return Ok(Outcome::default());
        }
        let (message, context) = (parcel.message.clone(), Arc::clone(&parcel.context));
        let answer = self.exporter.export(parcel).await;
        if answer.is_ok() {
            round.took(self.number, message, context);
        }
        answer
    }
}

impl Pipeline {
    async fn run(&self, mut batch: Batch, round: Option<&Round<'_>>) -> Answer {
        for processor in &self.processors {
            batch = processor.process(batch).await?;
        }
        if batch.spans() == 0 {
            return Ok(Outcome::default());
        }
        match (self.exporters.is_empty(), self.next.as_slice()) {
            (_, []) => self.export(batch, round).await,
            (true, _) => self.hand_on(batch, round).await,
            // A batch goes on as it is, edits and index included, and shares its bytes.
            (false, _) => {
                let (handed_on, exported) = tokio::join!(self.hand_on(batch.clone(), round), self.export(batch, round));
                join(vec![handed_on, exported], Outcome::beside)
            }
        }
    }

    async fn export(&self, batch: Batch, round: Option<&Round<'_>>) -> Answer {
        let mut parcels = batch.finish();
        if let ([destination], 1) = (self.exporters.as_slice(), parcels.len())
            && let Some(parcel) = parcels.pop()
        {
            return destination.send(parcel, round).await;
        }
        let everywhere = parcels.into_iter().map(async |parcel| {
            let sends = each(&self.exporters, parcel).map(|(to, parcel)| to.send(parcel, round));
            join(join_all(sends).await, Outcome::beside)
        });
        join(join_all(everywhere).await, Outcome::and)
    }

    async fn hand_on(&self, batch: Batch, round: Option<&Round<'_>>) -> Answer {
        join(join_all(each(&self.next, batch).map(|(to, batch)| to.deliver(batch, round))).await, Outcome::beside)
    }

    fn looks_inside(&self) -> bool {
        self.processors.iter().any(|processor| processor.looks_inside())
            || self.next.iter().any(|next| next.looks_inside())
    }

    fn has_processors(&self) -> bool {
        let behind = |next: &Arc<FanOut>| next.pipelines.iter().any(|pipeline| pipeline.has_processors());
        !self.processors.is_empty() || self.next.iter().any(behind)
    }

    /// Destinations that a batch comes to.
    fn destinations(&self) -> usize {
        self.exporters.len() + self.next.iter().map(|next| next.destinations).sum::<usize>()
    }
}

/// Spans for each: copies for all but the last, who gets the original. Each copy is
/// one more delivery in the account.
fn each<To, Spans: Clone>(all: &[To], spans: Spans) -> impl Iterator<Item = (&To, Spans)> {
    let mut original = Some(spans);
    all.iter().enumerate().filter_map(move |(at, to)| {
        let is_last = at + 1 == all.len();
        let spans = if is_last { original.take() } else { original.clone() };
        Some((to, spans?))
    })
}

type Answer = Result<Outcome, ConsumeError>;

/// One answer for several: `Ok` if all are.
fn join(answers: Vec<Answer>, both: impl Fn(Outcome, Outcome) -> Outcome) -> Answer {
    let joined = answers.into_iter().reduce(|one, other| match (one, other) {
        (Ok(one), Ok(other)) => Ok(both(one, other)),
        (Err(one), Err(other)) => Err(one.join(other)),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
    });
    joined.unwrap_or_else(|| Ok(Outcome::default()))
}

/// What a receiver or a connector feeds: all the pipelines that name it.
pub struct FanOut {
    pipelines: Vec<Arc<Pipeline>>,
    repeats: Arc<Repeats>,
    destinations: usize,
    /// Whether a part of a request can be taken and another one not: one of several
    /// destinations, or of several tenants that a processor made.
    can_differ: bool,
}

impl FanOut {
    pub fn new(pipelines: Vec<Arc<Pipeline>>, repeats: Arc<Repeats>) -> Self {
        let destinations = pipelines.iter().map(|pipeline| pipeline.destinations()).sum();
        let can_differ = destinations > 1 || pipelines.iter().any(|pipeline| pipeline.has_processors());
        Self { pipelines, repeats, destinations, can_differ }
    }

    fn deliver<'a>(&'a self, batch: Batch, round: Option<&'a Round<'a>>) -> BoxFuture<'a, Answer> {
        match self.pipelines.as_slice() {
            [pipeline] => Box::pin(pipeline.run(batch, round)),
            pipelines => Box::pin(async move {
                let all = each(pipelines, batch).map(|(to, batch)| to.run(batch, round));
                join(join_all(all).await, Outcome::beside)
            }),
        }
    }

    async fn deliver_to_many(&self, batch: Batch) -> Answer {
        let round = Round::new(&self.repeats);
        let answer = self.deliver(batch, Some(&round)).await;
        round.close(&answer);
        answer
    }
}

impl Consumer for FanOut {
    fn consume(&self, batch: Batch) -> BoxFuture<'_, Answer> {
        if self.can_differ { Box::pin(self.deliver_to_many(batch)) } else { self.deliver(batch, None) }
    }

    fn looks_inside(&self) -> bool {
        self.pipelines.iter().any(|pipeline| pipeline.looks_inside())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_retryable_answer_makes_all_of_it_worth_a_retry() {
        let join = |answers| super::join(answers, Outcome::beside);
        let fine = || Ok(Outcome::default());
        let both = join(vec![fine(), Err(ConsumeError::permanent("a")), Err(ConsumeError::retryable("b"))]);
        let error = both.unwrap_err();
        assert!(error.retryable);
        assert_eq!(error.message, "b; a");
        assert!(!join(vec![Err(ConsumeError::permanent("a"))]).unwrap_err().retryable);
        assert_eq!(join(vec![fine(), fine()]), fine());
    }

    #[test]
    fn what_was_rejected_is_counted_once_for_each_span() {
        let two = || Ok(Outcome::rejected(2, "old"));
        let three = || Ok(Outcome::rejected(3, "young"));
        let beside = super::join(vec![two(), three()], Outcome::beside).unwrap();
        assert_eq!(beside, Outcome::rejected(3, "old; young"), "the same spans at two destinations");
        let and = super::join(vec![two(), Ok(Outcome::default()), two()], Outcome::and).unwrap();
        assert_eq!(and, Outcome::rejected(4, "old"), "the spans of two tenants");
    }
}
