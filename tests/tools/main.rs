//! What the repository's files are to the tools that read them: promtool, a browser, Grafana's types.

mod alerts;
mod alerts_webhook;
mod dashboard_schema;
mod outside_prometheus;
mod page;
mod promql;
