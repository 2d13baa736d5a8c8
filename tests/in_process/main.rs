//! Each part against a fake Kubernetes API, all in one process.

mod agent {
    mod clocks;
    mod custom_workloads;
    mod elections;
    mod events;
    mod halt;
    mod hypotheses;
    mod kills;
    mod narrowing;
    mod once;
    mod outages;
    mod page;
    mod recoveries;
    mod rounds;
    mod settings;
    mod several;
    mod steady_state;
    mod walk;
    mod watches;
    mod workloads;
}
mod plugin {
    mod changes;
    mod explanations;
    mod rounds;
    mod stage;
}
mod webhook {
    mod admission;
    mod malformed;
}
