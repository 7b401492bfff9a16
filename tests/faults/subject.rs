//! The collector that faults are done to: ours, or another one with the same config.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::Collector;
use crate::support::collector::{Ended, Process};

use super::plan::{Mode, Plan, Wire};

#[derive(Debug, Clone)]
pub enum Subject {
    Vespid,
    Other { binary: PathBuf, has_storage: bool },
}

/// One life of it.
pub enum Life {
    Vespid(Box<Collector>),
    Other { process: Process, address: SocketAddr, _folder: TempDir },
}

impl Subject {
    /// What `VESPID_FAULT_BINARY` names.
    pub fn of_environment() -> Self {
        let Some(binary) = std::env::var_os("VESPID_FAULT_BINARY").map(PathBuf::from) else { return Self::Vespid };
        let listed = Command::new(&binary).arg("components").output().expect("the other binary can be run");
        let has_storage = String::from_utf8_lossy(&listed.stdout).contains("file_storage");
        Self::Other { binary, has_storage }
    }

    pub fn can_do(&self, plan: &Plan) -> bool {
        !matches!(self, Self::Other { has_storage: false, .. }) || plan.mode != Mode::Persistent
    }

    /// Starts it, and waits until it is ready.
    pub fn start(&self, plan: &Plan, targets: &[String], folder: &Path, file_limit: Option<u64>) -> Life {
        let Self::Other { binary, .. } = self else {
            let mut setup = plan.setup(targets, folder, 0);
            if let Some(bytes) = file_limit {
                setup = setup.file_limit(bytes);
            }
            return Life::Vespid(Box::new(setup.start()));
        };
        // It does not tell which port it got.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let home = TempDir::new().unwrap();
        let path = home.path().join("collector.yaml");
        std::fs::write(&path, config(plan, targets, folder, address).to_string()).unwrap();
        let mut process = Process::spawn(Command::new(binary).arg("--config").arg(path));
        process.wait_for_log("Everything is ready");
        Life::Other { process, address, _folder: home }
    }
}

/// The same config without what only our harness looks at.
fn config(plan: &Plan, targets: &[String], folder: &Path, address: SocketAddr) -> Value {
    let protocol = if plan.incoming == Wire::Grpc { "grpc" } else { "http" };
    let ids = plan.exporters("otlp_grpc", "otlp_http");
    let exporters = ids.iter().zip(targets).map(|(id, to)| (id.clone(), plan.exporter(to, 0)));
    let mut config = json!({
        "receivers": {"otlp": {"protocols": {protocol: {"endpoint": address.to_string()}}}},
        "processors": {},
        "exporters": exporters.collect::<serde_json::Map<_, _>>(),
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {"traces": {"receivers": ["otlp"], "processors": [], "exporters": ids}},
        },
    });
    if let Some(batch) = plan.batch_processor() {
        config["processors"]["batch"] = batch;
        config["service"]["pipelines"]["traces"]["processors"] = json!(["batch"]);
    }
    if plan.mode == Mode::Persistent {
        config["extensions"]["file_storage"] = json!({"directory": folder});
        config["service"]["extensions"] = json!(["file_storage"]);
    }
    config
}

impl Life {
    pub fn address(&self, wire: Wire) -> SocketAddr {
        match self {
            Self::Vespid(collector) if wire == Wire::Grpc => collector.grpc(),
            Self::Vespid(collector) => collector.http(),
            Self::Other { address, .. } => *address,
        }
    }

    /// Ends it with this signal, and waits for its end.
    pub fn end(self, signal: i32) -> Ended {
        let process = match self {
            Self::Vespid(collector) => collector.process,
            Self::Other { process, .. } => process,
        };
        process.signal(signal);
        process.wait()
    }
}
