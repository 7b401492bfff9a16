//! What to write instead of component types of the Collector that do not exist here.

/// A hint for an unknown type, where there is a better one than the list of known types.
pub(super) fn of(kind: &str, name: &str) -> Option<&'static str> {
    Some(match (kind, name) {
        ("exporter", "logging") => {
            "the Collector replaced `logging` by `debug`: rename it, and write `verbosity` for `loglevel`"
        }
        ("exporter", "jaeger" | "jaeger_thrift") => {
            "Jaeger takes OTLP, and the Collector removed this exporter: use `otlp_grpc` with Jaeger's port 4317"
        }
        ("exporter", "zipkin") => "use `otlp_http` towards something that takes OTLP, such as Tempo",
        ("exporter", "loadbalancing") => "use `otlp_grpc` towards one Tempo or one further collector",
        ("exporter", "prometheus" | "prometheusremotewrite" | "prometheus_remote_write" | "loki") => {
            "it exports metrics or logs: leave it to the OpenTelemetry Collector"
        }
        ("receiver", "jaeger" | "zipkin" | "opencensus" | "skywalking") => {
            "let senders speak OTLP, which every OpenTelemetry SDK does, and remove it"
        }
        (
            "receiver",
            "prometheus" | "host_metrics" | "hostmetrics" | "kubeletstats" | "kubelet_stats" | "k8s_cluster"
            | "filelog" | "file_log" | "k8s_events" | "k8sobjects" | "k8s_objects" | "statsd" | "docker_stats",
        ) => "it receives metrics or logs: leave it to the OpenTelemetry Collector",
        ("connector", "span_metrics" | "spanmetrics" | "service_graph" | "servicegraph" | "count" | "exceptions") => {
            "it makes metrics of traces, which Tempo's metrics-generator does too: `--traces-only` leaves it out"
        }
        ("processor", "k8sattributes" | "k8s_attributes" | "resourcedetection" | "resource_detection") => {
            "let the SDKs set resource attributes (`OTEL_RESOURCE_ATTRIBUTES`), or an OpenTelemetry Collector in front"
        }
        ("connector", "routing" | "failover" | "round_robin") => "use `forward`, or one exporter",
        ("extension", "db_storage" | "redis_storage") => "use `file_storage`",
        (
            "extension",
            "oidc" | "oauth2client" | "sigv4auth" | "asap" | "asapclient" | "azure_auth" | "googleclientauth",
        ) => "use `basicauth` or `bearertokenauth`",
        ("extension", "k8s_observer" | "k8s_leader_elector" | "docker_observer" | "host_observer") => {
            "it serves receivers of metrics and logs: remove it together with them"
        }
        ("extension", "opamp") => "remove it: configs come from files, variables and URLs",
        ("extension", "memory_ballast") => "remove it: memory is managed without a ballast",
        _ => return None,
    })
}
