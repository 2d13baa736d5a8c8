//! Tests on a real node that change what the whole cluster shares, or that measure it, so that each
//! group has a cluster to itself while it runs.

mod consent {
    mod bindings;
    mod bypass;
    mod caller;
    mod large_namespaces;
    mod opt_in_role;
    mod records;
    mod rules;
    mod unreviewed;
}
mod safeguards {
    mod halt_by_alert;
    mod hammer;
    mod locks;
    mod look;
    mod race;
    mod rights;
}
mod kills {
    mod truth;
}
mod operations {
    mod availability;
    mod components;
    mod deploy;
    mod drift;
    mod leader;
    mod lifecycle;
    mod once;
    mod outage;
    mod rotation;
    mod upgrade;
}
mod people {
    mod dashboard;
    mod demo;
    mod explain;
    mod walkthrough;
}
