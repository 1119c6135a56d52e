//! Prometheus text format 0.0.4, from a registry that speaks OpenMetrics.
//!
//! The two differ in where a counter's `_total` stands: OpenMetrics leaves it out of HELP and TYPE, and a
//! reader of 0.0.4 would then take the samples for untyped ones.

use prometheus_client::registry::Registry;

/// The whole registry.
pub fn render(registry: &Registry) -> String {
    let mut open = String::new();
    if prometheus_client::encoding::text::encode(&mut open, registry).is_err() {
        // Only a writer that fails can end here, and a String does not.
        return String::new();
    }
    let mut out = String::with_capacity(open.len() + 1024);
    let mut help: Option<&str> = None;
    for line in open.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = Some(rest);
            continue;
        }
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) else {
            out.push_str(line);
            out.push('\n');
            continue;
        };
        let suffix = if kind == "counter" { "_total" } else { "" };
        if let Some((_, text)) = help.take().and_then(|h| h.split_once(' ')) {
            out.push_str(&format!("# HELP {name}{suffix} {text}\n"));
        }
        out.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;

    #[test]
    fn a_counter_carries_its_suffix_in_type_and_sample() {
        let mut registry = Registry::with_prefix("waystation");
        let counter: Counter = Counter::default();
        counter.inc();
        registry.register("errors", "Errors", counter);
        registry.register("depth", "Depth", Gauge::<i64>::default());
        assert_eq!(
            render(&registry),
            "# HELP waystation_errors_total Errors.\n# TYPE waystation_errors_total counter\n\
             waystation_errors_total 1\n# HELP waystation_depth Depth.\n# TYPE waystation_depth gauge\n\
             waystation_depth 0\n"
        );
    }
}
