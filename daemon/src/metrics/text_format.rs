//! The older text format of Prometheus (0.0.4), for scrapers that do not ask for OpenMetrics: counters and infos are
//! declared by the names that their lines have.

/// Of the older text.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The same numbers.
pub(crate) fn from_openmetrics(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // HELP comes before TYPE, which says the name.
    let mut help = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map(|(_, words)| words);
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            for (word, text) in [("HELP", help.take()), ("TYPE", Some(kind))] {
                if let Some(text) = text {
                    out.extend(["# ", word, " ", name, suffix, " ", text, "\n"]);
                }
            }
        } else if !line.starts_with('#') {
            out.extend([line, "\n"]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_infos_are_declared_as_they_are_written() {
        let text = "# HELP a_bytes Of a.\n# TYPE a_bytes gauge\n# UNIT a_bytes bytes\na_bytes 1.0\n\
                    # HELP b Of b.\n# TYPE b counter\nb_total{x=\"# TYPE\"} 2\n\
                    # HELP c Of c.\n# TYPE c info\nc_info{v=\"1\"} 1\n# EOF\n";
        assert_eq!(
            from_openmetrics(text),
            "# HELP a_bytes Of a.\n# TYPE a_bytes gauge\na_bytes 1.0\n\
             # HELP b_total Of b.\n# TYPE b_total counter\nb_total{x=\"# TYPE\"} 2\n\
             # HELP c_info Of c.\n# TYPE c_info gauge\nc_info{v=\"1\"} 1\n"
        );
    }
}
