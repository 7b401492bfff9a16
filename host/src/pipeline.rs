//! A pipeline: processors in their order, then every exporter and every pipeline
//! that a connector leads to. Its answer is `Ok` once each destination has every
//! span that the processors let through.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::component::{BoxFuture, ConsumeError, Consumer, Exporter, Processor};
use crate::traces::Batch;

pub struct Pipeline {
    pub processors: Vec<Box<dyn Processor>>,
    pub exporters: Vec<Arc<dyn Exporter>>,
    /// What connectors lead to.
    pub next: Vec<Arc<dyn Consumer>>,
}

impl Pipeline {
    async fn run(&self, mut batch: Batch) -> Result<(), ConsumeError> {
        for processor in &self.processors {
            batch = processor.process(batch).await?;
        }
        if batch.spans() == 0 {
            return Ok(());
        }
        match (self.exporters.is_empty(), self.next.as_slice()) {
            (_, []) => self.export(batch).await,
            (true, [next]) => next.consume(batch).await,
            (true, _) => self.hand_on(&batch).await,
            // A batch goes on as it is, edits and index included, and shares its bytes.
            (false, _) => {
                let (handed_on, exported) = tokio::join!(self.hand_on(&batch), self.export(batch.clone()));
                join(vec![handed_on, exported])
            }
        }
    }

    async fn export(&self, batch: Batch) -> Result<(), ConsumeError> {
        let mut parcels = batch.finish();
        if let ([exporter], 1) = (self.exporters.as_slice(), parcels.len())
            && let Some(parcel) = parcels.pop()
        {
            return exporter.export(parcel).await;
        }
        let sends = parcels.iter().flat_map(|parcel| self.exporters.iter().map(|to| to.export(parcel.clone())));
        join(join_all(sends).await)
    }

    async fn hand_on(&self, batch: &Batch) -> Result<(), ConsumeError> {
        join(join_all(self.next.iter().map(|next| next.consume(batch.clone()))).await)
    }
}

/// One answer for several: `Ok` if all are.
fn join(answers: Vec<Result<(), ConsumeError>>) -> Result<(), ConsumeError> {
    answers.into_iter().filter_map(Result::err).reduce(ConsumeError::join).map_or(Ok(()), Err)
}

impl Consumer for Pipeline {
    fn consume(&self, batch: Batch) -> BoxFuture<'_, Result<(), ConsumeError>> {
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
    fn consume(&self, batch: Batch) -> BoxFuture<'_, Result<(), ConsumeError>> {
        match self.0.as_slice() {
            [pipeline] => pipeline.consume(batch),
            pipelines => Box::pin(async move {
                join(join_all(pipelines.iter().map(|pipeline| pipeline.consume(batch.clone()))).await)
            }),
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
        let both = join(vec![Ok(()), Err(ConsumeError::permanent("a")), Err(ConsumeError::retryable("b"))]);
        let error = both.unwrap_err();
        assert!(error.retryable);
        assert_eq!(error.message, "b; a");
        assert!(!join(vec![Err(ConsumeError::permanent("a"))]).unwrap_err().retryable);
        assert_eq!(join(vec![Ok(()), Ok(())]), Ok(()));
    }
}
