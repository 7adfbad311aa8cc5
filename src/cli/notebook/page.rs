//! The notebook itself: nbformat 4.5, plain cells that a person would have written.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::plan::typed::Kind;

use super::Engine;
use super::charts;
use super::draw::Drawing;
use super::load::{self, literal, sql_name, variable};
use super::outputs::{Format, Output, Subject};

/// How charts look; dates are told as shortly as they can be, so that they do not run into one another.
const LOOK: &str = r##"plt.rcParams.update({
    "figure.figsize": (9, 4), "figure.dpi": 110, "figure.autolayout": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left",
    "axes.titleweight": "bold", "axes.grid": True, "grid.alpha": 0.25, "axes.axisbelow": True,
    "date.converter": "concise",
    "axes.prop_cycle": plt.cycler(color=["#2b6cb0", "#dd6b20", "#2f855a", "#9f7aea", "#c53030", "#718096", "#b7791f", "#319795"]),
})
"##;

/// Reads what the packages tell.
const PROVENANCE: &str = r#"def told(package, stream):
    """What is told of a stream's outputs, the latest first."""
    resources = json.loads((PROJECT / package).read_text(encoding="utf-8"))["resources"]
    ours = [r for r in resources if r.get("gleaner", {}).get("pipeline") == PIPELINE and stream in r["gleaner"].get("streams", [r["gleaner"]["stream"]])]
    return sorted(ours, key=lambda r: r["gleaner"]["published"], reverse=True)


def age(instant):
    hours = (datetime.now(timezone.utc) - datetime.fromisoformat(instant)).total_seconds() / 3600
    return f"{hours:.1f} hours ago" if hours < 48 else f"{hours / 24:.0f} days ago"


provenance = [
    {
        "stream": stream,
        "file": resource["path"],
        "rows": resource["rows"],
        "published": resource["gleaner"]["published"][:19] + "Z",
        "age": age(resource["gleaner"]["published"]),
        "run": resource["gleaner"]["run"],
        "source": resource.get("sources", [{"path": "?"}])[0]["path"],
        "hash": resource.get("hash", ""),
    }
    for stream, package in OUTPUTS.items()
    for resource in told(package, stream)
]
"#;

/// The notebook as text.
pub(super) fn write(subject: &Subject, outputs: &[Output], engine: Engine, way: &str) -> String {
    let mut cells = Cells::default();
    let streams: Vec<String> = outputs
        .iter()
        .map(|output| format!("`{}`", output.stream))
        .collect();
    cells.text(&format!(
        "# {}\n\n{}\n\nStreams: {}. Written by `gleaner notebook {}`; it reads what the latest run has published.",
        subject.name, subject.about, streams.join(", "), subject.name
    ));
    cells.code(&setup(subject, outputs, engine, way));
    cells.text("## Where the data come from\n\nAs the `datapackage.json` beside them tells: which run published them, and when.");
    let shown = match engine {
        Engine::Pandas => "pd.DataFrame(provenance)",
        Engine::Polars => "pl.DataFrame(provenance)",
        Engine::Duckdb => {
            "for row in provenance:\n    print(\" · \".join(str(value) for value in row.values()))"
        }
    };
    cells.code(&format!("{PROVENANCE}{shown}"));
    for output in outputs {
        stream(&mut cells, output, engine);
    }
    let (language, name) = ("python", "python3");
    let notebook = json!({
        "cells": cells.0,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": language, "name": name},
            "language_info": {"name": language},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    });
    serde_json::to_string_pretty(&notebook).unwrap_or_default() + "\n"
}

fn setup(subject: &Subject, outputs: &[Output], engine: Engine, way: &str) -> String {
    let mut text = String::from("import json\n");
    for module in load::imports(outputs, engine) {
        let _ = writeln!(text, "{module}");
    }
    text += "from datetime import datetime, timezone\nfrom pathlib import Path\n\nimport matplotlib.pyplot as plt\n";
    text += match engine {
        Engine::Pandas => "import pandas as pd\n",
        Engine::Polars => "import polars as pl\n",
        Engine::Duckdb => "import duckdb\n",
    };
    let _ = writeln!(
        text,
        "\nPROJECT = Path({})  # seen from this notebook\nPIPELINE = {}\nOUTPUTS = {{",
        literal(way),
        literal(&subject.name)
    );
    for output in outputs {
        let _ = writeln!(
            text,
            "    {}: {},",
            literal(&output.stream),
            literal(&output.package)
        );
    }
    text += "}\n";
    if engine == Engine::Duckdb {
        text += "duckdb.sql(\"SET TimeZone = 'UTC'\")\n";
    }
    text + LOOK
}

fn stream(cells: &mut Cells, output: &Output, engine: Engine) {
    let name = variable(&output.stream);
    let kept = match &output.format {
        Format::Csv(..) => "Columns have the types that were found when the file was written.",
        Format::Ndjson => "Each value says its own type; nested objects become columns with dots.",
        Format::Parquet => "The file holds the types.",
        Format::Sqlite(_) => "Columns have the types that were found when the table was written.",
    };
    cells.text(&format!("## {}\n\n{kept}", output.stream));
    let end = match engine {
        Engine::Duckdb => format!(
            "duckdb.sql({})",
            literal(&format!("SELECT * FROM {} LIMIT 5", sql_name(&name)))
        ),
        _ => format!("{name}.head()"),
    };
    cells.code(&format!("{}{end}", load::load(output, engine)));
    cells.code(&match engine {
        Engine::Pandas => format!(
            "pd.DataFrame({{\n    \"type\": {name}.dtypes.astype(str),\n    \"filled\": {name}.notna().mean().map(\"{{:.0%}}\".format),\n    \"example\": {name}.bfill().iloc[0] if len({name}) else None,\n}})"
        ),
        Engine::Polars => format!(
            "pl.DataFrame({{\n    \"column\": {name}.columns,\n    \"type\": [str(kind) for kind in {name}.dtypes],\n    \"filled\": [f\"{{1 - {name}[column].null_count() / max(len({name}), 1):.0%}}\" for column in {name}.columns],\n}})"
        ),
        Engine::Duckdb => format!("duckdb.sql({})", literal(&format!("SUMMARIZE {}", sql_name(&name)))),
    });
    let label = literal(&format!("{}:", output.stream));
    let mut told = match engine {
        Engine::Pandas | Engine::Polars => format!("print({label}, len({name}), \"rows\")\n"),
        Engine::Duckdb => format!(
            "print({label}, duckdb.sql({}).fetchall()[0][0], \"rows\")\n",
            literal(&format!("SELECT count(*) FROM {}", sql_name(&name)))
        ),
    };
    if let Some(time) = freshest(output) {
        let column = literal(&time);
        let newest = match engine {
            Engine::Pandas | Engine::Polars => format!("{name}[{column}].max()"),
            Engine::Duckdb => format!(
                "duckdb.sql({}).fetchall()[0][0]",
                literal(&format!(
                    "SELECT max({})::VARCHAR FROM {}",
                    sql_name(&time),
                    sql_name(&name)
                ))
            ),
        };
        let _ = writeln!(told, "print(\"newest\", {column}, {newest})");
    }
    cells.code(&told);
    for chart in charts::choose(output) {
        let drawing = Drawing {
            engine,
            name: &name,
            output,
        };
        cells.code(&drawing.draw(&chart));
    }
}

/// The instant that says how new the newest record is.
fn freshest(output: &Output) -> Option<String> {
    let times = output.columns.iter().filter(|seen| {
        matches!(seen.column.kind, Some(Kind::Timestamp | Kind::Date)) && seen.column.values > 0
    });
    let newest = times.max_by(|a, b| a.column.max.cmp(&b.column.max))?;
    Some(newest.column.name.clone())
}

/// Cells in their order.
#[derive(Default)]
struct Cells(Vec<Value>);

impl Cells {
    fn text(&mut self, text: &str) {
        let cell = json!({"cell_type": "markdown", "id": self.id(), "metadata": {}, "source": lines(text)});
        self.0.push(cell);
    }

    fn code(&mut self, text: &str) {
        let cell = json!({
            "cell_type": "code", "id": self.id(), "metadata": {}, "execution_count": null,
            "outputs": [], "source": lines(text.trim_end()),
        });
        self.0.push(cell);
    }

    /// Unlike any other in the notebook (nbformat 4.5).
    fn id(&self) -> String {
        format!("cell-{}", self.0.len() + 1)
    }
}

/// As nbformat keeps text: a list of lines with their ends.
fn lines(text: &str) -> Vec<String> {
    text.split_inclusive('\n').map(str::to_owned).collect()
}
