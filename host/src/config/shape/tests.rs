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
    read(parse(text), false, &problems);
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
    read(parse(text), false, &problems);
    let warnings = problems.finish().unwrap();
    warnings.iter().map(|warning| format!("{}: {}", warning.path, warning.message)).collect()
}

fn ids(references: &[Reference]) -> Vec<String> {
    references.iter().map(|each| each.id.to_string()).collect()
}

#[test]
fn a_sound_config_is_read_in_order() {
    let problems = Problems::new();
    let config = read(parse(SOUND), false, &problems);
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
         --> test.yaml:18:5\n\
         hint: start with `--traces-only`, which leaves such pipelines out, or remove it"
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

/// Metrics beside traces, joined by a connector, with an extension for metrics alone.
const MIXED: &str = "\
receivers: {otlp: {protocols: {grpc: }}, prometheus: {auth: {authenticator: oidc}}, both: }
processors: {wasm: , filter/metrics: }
exporters: {debug: , prometheus: {queue: [storage: file_storage/m, headers: {k: bearer}]}}
connectors: {span_metrics: {dimensions: [health_check]}}
extensions: {health_check: , oidc: , file_storage/m: , bearer: }
service:
  extensions: [health_check, oidc, file_storage/m, bearer]
  pipelines:
    traces: {receivers: [otlp, both], processors: [wasm], exporters: [debug, span_metrics]}
    metrics: {receivers: [span_metrics, prometheus, both], processors: [filter/metrics], exporters: [prometheus, unknown]}
    logs/x: {nonsense: [], receivers: 7, exporters: [debug]}
";

fn traces_only(text: &str) -> (Config, Vec<String>, Vec<String>) {
    let problems = Problems::new();
    let config = read(parse(text), true, &problems);
    let warnings = problems.take_warnings();
    let warnings = warnings.iter().map(|warning| format!("{}: {}", warning.path, warning.message)).collect();
    let errors = problems.finish().err().map_or(Vec::new(), |errors| errors.problems().to_vec());
    (config, warnings, errors.iter().map(ToString::to_string).collect())
}

fn configured(components: &[Component]) -> Vec<String> {
    components.iter().map(|component| component.id.to_string()).collect()
}

#[test]
fn traces_only_leaves_out_other_signals_with_all_that_only_they_name() {
    let (config, warnings, errors) = traces_only(MIXED);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(configured(&config.receivers), ["otlp", "both"]);
    assert_eq!(configured(&config.processors), ["wasm"]);
    assert_eq!(configured(&config.exporters), ["debug"]);
    assert_eq!(configured(&config.connectors), Vec::<String>::new());
    assert_eq!(configured(&config.extensions), ["health_check", "bearer"]);
    assert_eq!(ids(&config.service.extensions), ["health_check", "bearer"]);
    assert_eq!(ids(&config.service.pipelines[0].exporters), ["debug"]);
    assert_eq!(
        warnings,
        [
            "service.pipelines.traces.exporters: connector `span_metrics` leads to what `--traces-only` leaves out, \
             and is left out too",
            "service.pipelines: left out, as `--traces-only` asks: pipelines `metrics`, `logs/x`; \
             receiver `prometheus`; processor `filter/metrics`; exporter `prometheus`; connector `span_metrics`; \
             extensions `oidc`, `file_storage/m`",
        ]
    );
}

#[test]
fn traces_only_leaves_each_traces_pipeline_both_of_its_ends() {
    let (_, _, errors) = traces_only(&MIXED.replace("exporters: [debug, span_metrics]", "exporters: [span_metrics]"));
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].contains(
            "connector `span_metrics` leads to what `--traces-only` leaves out, and there is no other exporter"
        )
    );
    let fed = "traces/fed: {receivers: [span_metrics], exporters: [debug]}\n    logs/x: {exporters: [span_metrics]}";
    let (_, _, errors) = traces_only(
        &MIXED
            .replace("[debug, span_metrics]", "[debug]")
            .replace("[span_metrics, prometheus", "[prometheus")
            .replace("logs/x: {nonsense: [], receivers: 7, exporters: [debug]}", fed),
    );
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("connector `span_metrics` is fed by what `--traces-only` leaves out"), "{errors:?}");
    let (_, _, errors) = traces_only(&MIXED.replace("    traces:", "    metrics/y:"));
    assert!(errors[0].contains("`--traces-only` leaves no pipeline"), "{errors:?}");
}

#[test]
fn without_the_flag_the_refusal_names_it() {
    let problems = Problems::new();
    let config = read(parse(MIXED), false, &problems);
    let elsewhere: Vec<_> = config.receivers.iter().map(|component| component.elsewhere).collect();
    assert_eq!(elsewhere, [false, true, false]);
    let errors = problems.finish().unwrap_err();
    assert_eq!(errors.problems().len(), 2, "{errors}");
    assert!(errors.problems().iter().all(|problem| problem.hint.as_ref().unwrap().contains("`--traces-only`")));
}

/// Pipelines as `name: receivers > exporters`, joined by connectors `a` to `d`.
fn joined(pipelines: &[(&str, &str, &str)]) -> String {
    let lines: String = pipelines
        .iter()
        .map(|(name, from, to)| format!("    traces/{name}: {{receivers: [{from}], exporters: [{to}]}}\n"))
        .collect();
    format!(
        "receivers: {{nop: }}\nexporters: {{debug: }}\nconnectors: {{forward/a: , forward/b: , forward/c: }}\n\
         service:\n  pipelines:\n{lines}"
    )
}

#[test]
fn a_connector_needs_both_sides_in_the_collectors_words() {
    let used = joined(&[("1", "nop", "debug, forward/a"), ("2", "nop, forward/b", "debug")]);
    let errors = errors(&used);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert_eq!(
        errors[0],
        "error: service.pipelines: connector \"forward/a\" used as exporter in [traces] pipeline but not used in any \
         supported receiver pipeline\n  --> test.yaml:6:53\n\
         hint: name `forward/a` under the `receivers` of another traces pipeline too, or remove it"
    );
    assert!(
        errors[1]
            .contains("\"forward/b\" used as receiver in [traces] pipeline but not used in any supported exporter")
    );
}

#[test]
fn a_cycle_is_shown() {
    let cycle = joined(&[
        ("in", "nop", "forward/a"),
        ("1", "forward/a", "forward/b, debug"),
        ("2", "forward/b", "forward/c"),
        ("3", "forward/c", "forward/a"),
    ]);
    assert!(
        one(&cycle).starts_with(
            "error: service.pipelines: cycle detected: pipeline \"traces/1\" -> connector \"forward/b\" (traces to traces) \
             -> pipeline \"traces/2\" -> connector \"forward/c\" (traces to traces) -> pipeline \"traces/3\" -> \
             connector \"forward/a\" (traces to traces) -> pipeline \"traces/1\"\n  --> test.yaml:7:5\n"
        ),
        "{}",
        one(&cycle)
    );
    let own = joined(&[("1", "nop, forward/a", "forward/a")]);
    assert!(one(&own).contains(
        "cycle detected: pipeline \"traces/1\" -> connector \"forward/a\" (traces to traces) -> pipeline \"traces/1\""
    ));
}

#[test]
fn pipelines_stand_behind_what_they_lead_to() {
    let problems = Problems::new();
    let text = joined(&[
        ("1", "nop", "forward/a, forward/b"),
        ("2", "forward/a", "forward/c"),
        ("3", "forward/b, forward/c", "debug"),
        ("4", "forward/c", "debug"),
    ]);
    let config = read(parse(&text), false, &problems);
    assert!(!problems.has_errors());
    let order: Vec<_> = config.downstream_first().iter().map(|pipeline| pipeline.id.to_string()).collect();
    let place = |name: &str| order.iter().position(|id| id == name).unwrap();
    assert_eq!(order.len(), 4);
    assert!(place("traces/3") < place("traces/2") && place("traces/4") < place("traces/2"));
    assert!(place("traces/2") < place("traces/1"));
}

#[test]
fn thousands_of_pipelines_are_no_matter() {
    let mut text = String::from("receivers: {nop: }\nexporters: {debug: }\nconnectors:\n");
    (0..3000).for_each(|i| text.push_str(&format!("  forward/{i}:\n")));
    text.push_str("service:\n  pipelines:\n    traces: {receivers: [nop], exporters: [forward/0]}\n");
    for i in 0..2999 {
        text.push_str(&format!("    traces/{i}: {{receivers: [forward/{i}], exporters: [forward/{}]}}\n", i + 1));
    }
    text.push_str("    traces/end: {receivers: [forward/2999], exporters: [debug]}\n");
    let problems = Problems::new();
    let config = read(parse(&text), false, &problems);
    assert_eq!(problems.finish(), Ok(Vec::new()));
    assert_eq!(config.downstream_first().len(), 3001);
}
