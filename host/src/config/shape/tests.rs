use super::super::parse::parse_for_tests as parse;
use super::*;

const SOUND: &str = "\
receivers:
  otlp: {protocols: {grpc: }}
processors:
  batch:
  wasm/redact: {module: ./redact.wasm}
exporters:
  otlp: {endpoint: 'tempo:4317'}
extensions:
  health_check:
service:
  extensions: [health_check]
  telemetry: {logs: {level: debug}}
  pipelines:
    traces:
      receivers: [otlp]
      processors: [wasm/redact, batch]
      exporters: [otlp]
";

fn errors(text: &str) -> Vec<String> {
    let problems = Problems::new();
    read(parse(text), &problems);
    match problems.finish() {
        Ok(_) => Vec::new(),
        Err(errors) => errors.problems().iter().map(ToString::to_string).collect(),
    }
}

fn one(text: &str) -> String {
    let errors = errors(text);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors[0].clone()
}

fn warnings(text: &str) -> Vec<String> {
    let problems = Problems::new();
    read(parse(text), &problems);
    let warnings = problems.finish().unwrap();
    warnings.iter().map(|warning| format!("{}: {}", warning.path, warning.message)).collect()
}

fn ids(references: &[Reference]) -> Vec<String> {
    references.iter().map(|each| each.id.to_string()).collect()
}

#[test]
fn a_sound_config_is_read_in_order() {
    let problems = Problems::new();
    let config = read(parse(SOUND), &problems);
    assert_eq!(problems.finish(), Ok(Vec::new()));
    let processors: Vec<_> = config.processors.iter().map(|each| &each.path).collect();
    assert_eq!(processors, ["processors.batch", "processors.wasm/redact"]);
    assert!(config.processors[0].settings.is_null());
    assert_eq!(config.receivers[0].at.to_string(), "test.yaml:2:3");
    let pipeline = &config.service.pipelines[0];
    assert_eq!(pipeline.id.to_string(), "traces");
    assert_eq!(ids(&pipeline.receivers), ["otlp"]);
    assert_eq!(ids(&pipeline.processors), ["wasm/redact", "batch"]);
    assert_eq!(ids(&pipeline.exporters), ["otlp"]);
    assert_eq!(ids(&config.service.extensions), ["health_check"]);
    assert!(config.service.telemetry.is_some());
}

#[test]
fn a_reference_to_nothing_has_the_collectors_words() {
    assert_eq!(
        one(&SOUND.replace("[wasm/redact, batch]", "[wasm/redact, bacth]")),
        "error: service::pipelines::traces: references processor \"bacth\" which is not configured\n  \
         --> test.yaml:16:33\nhint: did you mean `batch`?"
    );
    assert!(
        one(&SOUND.replace("exporters: [otlp]", "exporters: [zipkin]"))
            .ends_with("hint: configured: `otlp`; or add `zipkin:` under `exporters`")
    );
    assert!(
        one(&SOUND.replace("extensions: [health_check]", "extensions: [health_check, pprof]"))
            .contains("service::extensions: references extension \"pprof\" which is not configured")
    );
}

#[test]
fn a_pipeline_needs_both_ends() {
    let text = SOUND.replace("receivers: [otlp]", "receivers: []").replace("exporters: [otlp]", "exporters:");
    let errors = errors(&text);
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(errors[0].contains("service.pipelines.traces.receivers: must have at least one receiver"));
    assert!(errors[1].contains("service.pipelines.traces.exporters: must have at least one exporter"));
}

#[test]
fn without_a_pipeline_there_is_nothing_to_run() {
    assert!(one("service:\n  pipelines:\n").contains("service must have at least one pipeline"));
    assert!(one("service:\n").contains("service must have at least one pipeline"));
    assert!(one("").contains("no `service` is configured"));
}

#[test]
fn signals_other_than_traces_are_refused() {
    let text = format!("{SOUND}    metrics/x: {{receivers: [otlp], exporters: [nowhere]}}\n");
    assert_eq!(
        one(&text),
        "error: service.pipelines.metrics/x: this collector carries traces only\n  \
         --> test.yaml:18:5\nhint: remove the pipeline `metrics/x`"
    );
    assert!(one(&SOUND.replace("    traces:", "    spans:")).contains("unknown signal `spans`"));
}

#[test]
fn what_is_named_twice_or_misspelt_is_refused() {
    assert!(
        one(&SOUND.replace("[wasm/redact, batch]", "[wasm/redact, batch, batch]"))
            .contains("service.pipelines.traces.processors[2]: `batch` is named twice, first at test.yaml:16:33")
    );
    assert!(one(&format!("{SOUND}reciever: {{}}\n")).contains("hint: did you mean `receivers`?"));
    assert!(one(&SOUND.replace("  batch:\n", "  batch:\n  ' batch':\n")).contains("configured twice"));
    assert!(
        one(&SOUND.replace("  batch:\n", "  batch:\n  9x:\n"))
            .contains("processors.9x: `9x` is not an id: `9x` is not a component type")
    );
    assert!(one(&SOUND.replace("[health_check]", "[health_check, [a]]")).contains("a list is not an id"));
    assert!(one(&SOUND.replace("[health_check]", "[health_check, a/]")).contains("no name behind the `/`"));
    assert!(one(&SOUND.replace("  telemetry", "  telemetri")).contains("did you mean `telemetry`?"));
}

#[test]
fn a_connector_joins_pipelines_and_shares_no_id() {
    let text = format!(
        "{}    traces/all: {{receivers: [forward], exporters: [otlp]}}\nconnectors:\n  forward:\n",
        SOUND.replace("exporters: [otlp]", "exporters: [forward]")
    );
    assert_eq!(errors(&text), Vec::<String>::new());
    let message = one(&text.replace("exporters:\n  otlp:", "exporters:\n  forward:\n  otlp:"));
    assert!(
        message
            .contains("connectors::forward: ambiguous ID: Found both \"forward\" exporter and \"forward\" connector")
    );
}

#[test]
fn what_no_pipeline_names_is_worth_a_warning() {
    let text = SOUND
        .replace("[wasm/redact, batch]", "[batch]")
        .replace("  extensions: [health_check]\n", "")
        .replace("exporters:\n", "connectors: {forward: }\nexporters:\n");
    assert_eq!(
        warnings(&text),
        [
            "processors.wasm/redact: configured, but named in no pipeline, and so not started",
            "connectors.forward: configured, but named in no pipeline, and so not started",
            "extensions.health_check: configured, but named in no list `service.extensions`, and so not started",
        ]
    );
}

#[test]
fn a_receiver_and_an_exporter_of_one_id_are_told_apart() {
    let text =
        SOUND.replace("exporters: [otlp]", "exporters: [debug]").replace("exporters:\n", "exporters:\n  debug:\n");
    assert_eq!(
        warnings(&text.replacen("      exporters:\n  debug:\n", "      exporters:", 1)),
        ["exporters.otlp: configured, but named in no pipeline, and so not started"]
    );
}
