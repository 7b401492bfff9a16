//! Extensions: what runs beside the pipelines.

pub mod health_check;
