//! `datapackage.json` in a folder where several runs publish at once: each finds what the others told.

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier};

use serde_json::Value as Json;

use crate::scene::{Project, Reply, Server};

/// How many pipelines write into one folder.
const RUNS: usize = 8;

#[test]
fn runs_that_publish_side_by_side_are_all_told_of() {
    // The answers go out together, so that all publish together.
    let together = Arc::new(Barrier::new(RUNS));
    let server = Server::start(move |_| {
        together.wait();
        Reply::json(r#"[{"id":1},{"id":2}]"#)
    });
    let pipeline = |name: &str| {
        format!(
            "source: {{ url: \"{}\", limits: none }}\nstreams:\n  {name}: {{ get: /{name} }}\n\
             sink: {{ csv: data/{name}.csv }}\n",
            server.url()
        )
    };
    let project = Project::new(&pipeline("items"));
    let names: Vec<String> = (0..RUNS).map(|n| format!("p{n}")).collect();
    for name in &names {
        project.write(&format!("pipelines/{name}.yaml"), &pipeline(name));
    }
    for _ in 0..5 {
        let running: Vec<_> = names
            .iter()
            .map(|name| {
                project
                    .command(&["run", name, "-q"])
                    .spawn()
                    .expect("it starts")
            })
            .collect();
        for mut child in running {
            assert!(child.wait().expect("an end").success());
        }
        let place = project.path().join("data/datapackage.json");
        let text = std::fs::read(&place).expect("it is there");
        let package: Json = serde_json::from_slice(&text).expect("JSON");
        let resources = package["resources"].as_array().expect("a list").iter();
        let told: BTreeSet<&str> = resources.filter_map(|one| one["name"].as_str()).collect();
        assert_eq!(told, names.iter().map(String::as_str).collect());
        std::fs::remove_file(place).expect("it goes");
    }
}
