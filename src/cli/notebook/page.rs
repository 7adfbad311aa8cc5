//! The notebook itself: nbformat 4.5, plain cells that a person would have written.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::plan::Plan;
use crate::plan::typed::Kind;

use super::Engine;
use super::charts::{self, Chart, Step};
use super::load::{self, literal, sql_name, variable};
use super::outputs::{Format, Output};

/// How charts look.
const LOOK: &str = r##"plt.rcParams.update({
    "figure.figsize": (9, 4), "figure.dpi": 110, "figure.autolayout": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left",
    "axes.titleweight": "bold", "axes.grid": True, "grid.alpha": 0.25, "axes.axisbelow": True,
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
pub(super) fn write(plan: &Plan, outputs: &[Output], engine: Engine, way: &str) -> String {
    let mut cells = Cells::default();
    let streams: Vec<String> = outputs
        .iter()
        .map(|output| format!("`{}`", output.stream))
        .collect();
    cells.text(&format!(
        "# {}\n\n{}\n\nStreams: {}. Written by `gleaner notebook {}`; it reads what the latest run has published.",
        plan.name, plan.about, streams.join(", "), plan.name
    ));
    cells.code(&setup(plan, outputs, engine, way));
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

fn setup(plan: &Plan, outputs: &[Output], engine: Engine, way: &str) -> String {
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
        literal(&plan.name)
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
    if let Some(time) = freshest(output) {
        cells.code(&match engine {
            Engine::Pandas | Engine::Polars => format!(
                "print(\"newest\", {}, {name}[{}].max())",
                literal(&time),
                literal(&time)
            ),
            Engine::Duckdb => format!(
                "print(\"newest\", {}, duckdb.sql({}).fetchall()[0][0])",
                literal(&time),
                literal(&format!(
                    "SELECT max({})::VARCHAR FROM {}",
                    sql_name(&time),
                    sql_name(&name)
                ))
            ),
        });
    }
    for chart in charts::choose(output) {
        let drawn = Drawing {
            engine,
            name: &name,
            output,
        }
        .draw(&chart);
        cells.code(&drawn);
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

/// Draws charts of a table.
struct Drawing<'a> {
    engine: Engine,
    name: &'a str,
    output: &'a Output,
}

impl Drawing<'_> {
    /// Two lists, `x` and `y`, from a query of DuckDB.
    fn asked(select: &str) -> String {
        format!("x, y = zip(*duckdb.sql({}).fetchall())\n", literal(select))
    }

    fn title(&self, what: &str) -> String {
        format!(
            "axes.set_title({})\n",
            literal(&format!("{}: {what}", self.output.stream))
        )
    }

    fn draw(&self, chart: &Chart) -> String {
        let table = sql_name(self.name);
        let name = self.name;
        let mut text = String::new();
        match chart {
            Chart::Counts { time, step } => {
                let (pandas, polars, sql, word) = match step {
                    Step::Hour => ("h", "1h", "hour", "an hour"),
                    Step::Day => ("D", "1d", "day", "a day"),
                    Step::Month => ("MS", "1mo", "month", "a month"),
                    Step::Year => ("YS", "1y", "year", "a year"),
                };
                let at = literal(time);
                let read = match self.engine {
                    Engine::Pandas => format!(
                        "counts = {name}.dropna(subset=[{at}]).set_index({at}).resample(\"{pandas}\").size()\nx, y = counts.index, counts.values\n"
                    ),
                    Engine::Polars => format!(
                        "counts = {name}.drop_nulls({at}).group_by(pl.col({at}).dt.truncate(\"{polars}\")).len().sort({at})\nx, y = counts[{at}].to_list(), counts[\"len\"].to_list()\n"
                    ),
                    Engine::Duckdb => Self::asked(&format!(
                        "SELECT date_trunc('{sql}', CAST({c} AS TIMESTAMP)), count(*) FROM {table} WHERE {c} IS NOT NULL GROUP BY 1 ORDER BY 1",
                        c = sql_name(time)
                    )),
                };
                text.push_str(&read);
                text += "figure, axes = plt.subplots()\naxes.fill_between(x, y, step=\"mid\", alpha=0.25)\naxes.step(x, y, where=\"mid\")\naxes.set_ylim(bottom=0)\n";
                text += &self.title(&format!("records {word}, by {time}"));
                text += "figure.autofmt_xdate(rotation=0, ha=\"center\")\nplt.show()";
            }
            Chart::Series { time, number, by } => {
                text += "figure, axes = plt.subplots()\n";
                let (at, y) = (literal(time), literal(number));
                match (self.engine, by) {
                    (Engine::Pandas, None) => {
                        let _ = writeln!(
                            text,
                            "line = {name}.dropna(subset=[{at}, {y}]).sort_values({at})\naxes.plot(line[{at}], line[{y}])"
                        );
                    }
                    (Engine::Polars, None) => {
                        let _ = writeln!(
                            text,
                            "line = {name}.drop_nulls([{at}, {y}]).sort({at})\naxes.plot(line[{at}].to_list(), line[{y}].to_list())"
                        );
                    }
                    (Engine::Duckdb, None) => {
                        let _ = writeln!(
                            text,
                            "{}axes.plot(x, y)",
                            Self::asked(&format!(
                                "SELECT {c}, {n} FROM {table} WHERE {c} IS NOT NULL AND {n} IS NOT NULL ORDER BY 1",
                                c = sql_name(time),
                                n = sql_name(number)
                            ))
                        );
                    }
                    (Engine::Pandas, Some(by)) => {
                        let by = literal(by);
                        let _ = writeln!(
                            text,
                            "for label, line in {name}.dropna(subset=[{at}, {y}]).sort_values({at}).groupby({by}):\n    axes.plot(line[{at}], line[{y}], label=label)\naxes.legend(frameon=False)"
                        );
                    }
                    (Engine::Polars, Some(by)) => {
                        let by = literal(by);
                        let _ = writeln!(
                            text,
                            "for (label,), line in {name}.drop_nulls([{at}, {y}]).sort({at}).group_by({by}, maintain_order=True):\n    axes.plot(line[{at}].to_list(), line[{y}].to_list(), label=label)\naxes.legend(frameon=False)"
                        );
                    }
                    (Engine::Duckdb, Some(by)) => {
                        let _ = writeln!(
                            text,
                            "lines = {{}}\nfor label, x, y in duckdb.sql({}).fetchall():\n    lines.setdefault(label, []).append((x, y))\nfor label, points in lines.items():\n    axes.plot(*zip(*points), label=label)\naxes.legend(frameon=False)",
                            literal(&format!(
                                "SELECT {b}, {c}, {n} FROM {table} WHERE {c} IS NOT NULL AND {n} IS NOT NULL ORDER BY 2",
                                b = sql_name(by),
                                c = sql_name(time),
                                n = sql_name(number)
                            ))
                        );
                    }
                }
                text += &self.title(&match by {
                    Some(by) => format!("{number} by {by}"),
                    None => number.clone(),
                });
                text += "figure.autofmt_xdate(rotation=0, ha=\"center\")\nplt.show()";
            }
            Chart::Top { column } => {
                let c = literal(column);
                let read = match self.engine {
                    Engine::Pandas => format!(
                        "top = {name}[{c}].astype(\"string\").value_counts().head(12)\nx, y = top.index, top.values\n"
                    ),
                    Engine::Polars => format!(
                        "top = {name}.drop_nulls({c}).group_by(pl.col({c}).cast(pl.String)).len().sort(\"len\", {c}, descending=[True, False]).head(12)\nx, y = top[{c}].to_list(), top[\"len\"].to_list()\n"
                    ),
                    Engine::Duckdb => Self::asked(&format!(
                        "SELECT {n}::VARCHAR, count(*) FROM {table} WHERE {n} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 12",
                        n = sql_name(column)
                    )),
                };
                text.push_str(&read);
                text += &self.bars(&format!("records by {column}"));
            }
            Chart::Means { group, number } => {
                let (g, n) = (literal(group), literal(number));
                let read = match self.engine {
                    Engine::Pandas => format!(
                        "means = {name}.groupby({g})[{n}].mean().nlargest(12)\nx, y = means.index, means.values\n"
                    ),
                    Engine::Polars => format!(
                        "means = {name}.drop_nulls([{g}, {n}]).group_by({g}).agg(pl.col({n}).mean()).sort({n}, descending=True).head(12)\nx, y = means[{g}].to_list(), means[{n}].to_list()\n"
                    ),
                    Engine::Duckdb => Self::asked(&format!(
                        "SELECT {g}::VARCHAR, avg({n}) FROM {table} WHERE {g} IS NOT NULL AND {n} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC LIMIT 12",
                        g = sql_name(group),
                        n = sql_name(number)
                    )),
                };
                text.push_str(&read);
                text += &self.bars(&format!("mean {number} by {group}"));
            }
            Chart::Greatest { label, number } => {
                let (l, n) = (literal(label), literal(number));
                let read = match self.engine {
                    Engine::Pandas => format!(
                        "top = {name}.dropna(subset=[{l}, {n}]).nlargest(12, {n})\nx, y = top[{l}].str.slice(0, 40), top[{n}]\n"
                    ),
                    Engine::Polars => format!(
                        "top = {name}.drop_nulls([{l}, {n}]).sort({n}, descending=True).head(12)\nx, y = top[{l}].str.slice(0, 40).to_list(), top[{n}].to_list()\n"
                    ),
                    Engine::Duckdb => Self::asked(&format!(
                        "SELECT left({l}, 40), {n} FROM {table} WHERE {l} IS NOT NULL AND {n} IS NOT NULL ORDER BY 2 DESC LIMIT 12",
                        l = sql_name(label),
                        n = sql_name(number)
                    )),
                };
                text.push_str(&read);
                text += &self.bars(&format!("greatest {number}, by {label}"));
            }
            Chart::Spread { number } => {
                let n = literal(number);
                let read = match self.engine {
                    Engine::Pandas => format!("values = {name}[{n}].dropna().to_numpy(float)\n"),
                    Engine::Polars => format!("values = {name}[{n}].drop_nulls().to_list()\n"),
                    Engine::Duckdb => format!(
                        "values = [value for value, in duckdb.sql({}).fetchall()]\n",
                        literal(&format!(
                            "SELECT {n} FROM {table} WHERE {n} IS NOT NULL",
                            n = sql_name(number)
                        ))
                    ),
                };
                text.push_str(&read);
                text += "figure, axes = plt.subplots()\naxes.hist(values, bins=\"auto\", edgecolor=\"white\", linewidth=0.5)\naxes.set_ylabel(\"records\")\n";
                let _ = writeln!(text, "axes.set_xlabel({n})");
                text += &self.title(&format!("how {number} is spread"));
                text += "plt.show()";
            }
            Chart::Pair { x, y } => {
                text += &self.pair(x, y, None);
                text += "figure, axes = plt.subplots()\naxes.scatter(x, y, s=14, alpha=0.5, linewidths=0)\n";
                let _ = writeln!(
                    text,
                    "axes.set_xlabel({})\naxes.set_ylabel({})",
                    literal(x),
                    literal(y)
                );
                text += &self.title(&format!("{x} and {y}"));
                text += "plt.show()";
            }
            Chart::Places { x, y, size } => {
                text += &self.pair(x, y, size.as_deref());
                text += "figure, axes = plt.subplots()\n";
                if let Some(size) = size {
                    let _ = writeln!(
                        text,
                        "dots = axes.scatter(x, y, c=z, s=18, cmap=\"viridis\", alpha=0.8, linewidths=0)\nfigure.colorbar(dots, label={})",
                        literal(size)
                    );
                } else {
                    text += "axes.scatter(x, y, s=14, alpha=0.5, linewidths=0)\n";
                }
                let _ = writeln!(
                    text,
                    "axes.set_xlabel({})\naxes.set_ylabel({})\naxes.set_aspect(\"equal\", adjustable=\"datalim\")",
                    literal(x),
                    literal(y)
                );
                text += &self.title("places");
                text += "plt.show()";
            }
            Chart::Filled => {
                let read = match self.engine {
                    Engine::Pandas => format!(
                        "filled = {name}.notna().mean().head(30)\nx, y = filled.index, filled.values\n"
                    ),
                    Engine::Polars => format!(
                        "x = {name}.columns[:30]\ny = [1 - {name}[column].null_count() / max(len({name}), 1) for column in x]\n"
                    ),
                    Engine::Duckdb => format!(
                        "x = duckdb.table({table}).columns[:30]\ny = [duckdb.sql(f'SELECT avg(({{chr(34)}}{{column}}{{chr(34)}} IS NOT NULL)::INT) FROM {bare}').fetchall()[0][0] or 0 for column in x]\n",
                        table = literal(name),
                        bare = name
                    ),
                };
                text.push_str(&read);
                text += &self.bars("share of records with a value");
            }
        }
        text
    }

    /// The numbers `x` and `y` of the same records, and a third, `z`, where one is named.
    fn pair(&self, x: &str, y: &str, z: Option<&str>) -> String {
        let columns: Vec<&str> = [Some(x), Some(y), z].into_iter().flatten().collect();
        let listed: Vec<String> = columns.iter().map(|column| literal(column)).collect();
        let listed = listed.join(", ");
        let names = if z.is_some() { "x, y, z" } else { "x, y" };
        match self.engine {
            Engine::Pandas => format!(
                "{names} = {}[[{listed}]].dropna().to_numpy(float).T\n",
                self.name
            ),
            Engine::Polars => format!(
                "{names} = {}.select({listed}).drop_nulls().to_numpy().T\n",
                self.name
            ),
            Engine::Duckdb => {
                let all: Vec<String> = columns.iter().map(|column| sql_name(column)).collect();
                let filled: Vec<String> = all
                    .iter()
                    .map(|name| format!("{name} IS NOT NULL"))
                    .collect();
                let query = format!(
                    "SELECT {} FROM {} WHERE {}",
                    all.join(", "),
                    sql_name(self.name),
                    filled.join(" AND ")
                );
                format!(
                    "{names} = zip(*duckdb.sql({}).fetchall())\n",
                    literal(&query)
                )
            }
        }
    }

    fn bars(&self, what: &str) -> String {
        format!(
            "figure, axes = plt.subplots(figsize=(9, 0.6 + 0.3 * max(len(x), 3)))\nlabels = [\" \".join(str(label).split())[:40] for label in x]\nbars = axes.barh(range(len(labels)), y, tick_label=labels)\naxes.bar_label(bars, fmt=\"{{:,.4g}}\", padding=3)\naxes.invert_yaxis()\naxes.margins(x=0.1)\naxes.grid(axis=\"y\", visible=False)\n{}plt.show()",
            self.title(what)
        )
    }
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
