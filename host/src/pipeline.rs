//! A pipeline: processors in their order, then every exporter and every pipeline
//! that a connector leads to. Its answer is `Ok` once each destination has every
//! span that the processors let through.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::component::{BoxFuture, ConsumeError, Consumer, Exporter, Outcome, Processor};
use crate::traces::Batch;

pub struct Pipeline {
    pub processors: Vec<Box<dyn Processor>>,
    pub exporters: Vec<Arc<dyn Exporter>>,
    /// What connectors lead to.
    pub next: Vec<Arc<dyn Consumer>>,
}

impl Pipeline {
    async fn run(&self, mut batch: Batch) -> Answer {
        for processor in &self.processors {
            batch = processor.process(batch).await?;
        }
        if batch.spans() == 0 {
            return Ok(Outcome::default());
        }
        match (self.exporters.is_empty(), self.next.as_slice()) {
            (_, []) => self.export(batch).await,
            (true, _) => self.hand_on(batch).await,
            // A batch goes on as it is, edits and index included, and shares its bytes.
            (false, _) => {
                let (handed_on, exported) = tokio::join!(self.hand_on(batch.clone()), self.export(batch));
                join(vec![handed_on, exported], Outcome::beside)
            }
        }
    }

    async fn export(&self, batch: Batch) -> Answer {
        let mut parcels = batch.finish();
        if let ([exporter], 1) = (self.exporters.as_slice(), parcels.len())
            && let Some(parcel) = parcels.pop()
        {
            return exporter.export(parcel).await;
        }
        let everywhere = parcels.into_iter().map(async |parcel| {
            let sends = each(&self.exporters, parcel).map(|(to, parcel)| to.export(parcel));
            join(join_all(sends).await, Outcome::beside)
        });
        join(join_all(everywhere).await, Outcome::and)
    }

    async fn hand_on(&self, batch: Batch) -> Answer {
        hand_to(&self.next, batch).await
    }
}

/// Everyone gets the batch.
async fn hand_to(all: &[Arc<impl Consumer + ?Sized>], batch: Batch) -> Answer {
    join(join_all(each(all, batch).map(|(to, batch)| to.consume(batch))).await, Outcome::beside)
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

impl Consumer for Pipeline {
    fn consume(&self, batch: Batch) -> BoxFuture<'_, Answer> {
        Box::pin(self.run(batch))
    }

    fn looks_inside(&self) -> bool {
        self.processors.iter().any(|processor| processor.looks_inside())
            || self.next.iter().any(|next| next.looks_inside())
    }
}

/// What a receiver or a connector feeds: all the pipelines that name it.
pub struct FanOut(pub Vec<Arc<Pipeline>>);

impl Consumer for FanOut {
    fn consume(&self, batch: Batch) -> BoxFuture<'_, Answer> {
        match self.0.as_slice() {
            [pipeline] => pipeline.consume(batch),
            pipelines => Box::pin(hand_to(pipelines, batch)),
        }
    }

    fn looks_inside(&self) -> bool {
        self.0.iter().any(|pipeline| pipeline.looks_inside())
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
