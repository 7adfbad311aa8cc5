//! Python that draws a chart with matplotlib, out of a table of each engine.

use std::fmt::Write;

use super::Engine;
use super::charts::{Chart, Since, Step};
use super::load::{literal, sql_name};
use super::outputs::Output;

/// Numbers beside bars.
const NUMBER: &str = "{:,.6g}";

/// Draws charts of a table.
pub(super) struct Drawing<'a> {
    pub(super) engine: Engine,
    /// The variable that holds the table.
    pub(super) name: &'a str,
    pub(super) output: &'a Output,
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

    pub(super) fn draw(&self, chart: &Chart) -> String {
        let table = sql_name(self.name);
        let name = self.name;
        let mut text = String::new();
        match chart {
            Chart::Counts { time, step, since } => {
                let (pandas, polars, sql, word, days) = match step {
                    Step::Minute => ("min", "1m", "minute", "a minute", "1 / 1440"),
                    Step::Hour => ("h", "1h", "hour", "an hour", "1 / 24"),
                    Step::Day => ("D", "1d", "day", "a day", "1"),
                    Step::Month => ("MS", "1mo", "month", "a month", "28"),
                    Step::Year => ("YS", "1y", "year", "a year", "350"),
                };
                let (at, c) = (literal(time), sql_name(time));
                let read = match (self.engine, since) {
                    (Engine::Pandas, _) => {
                        let instants = match since {
                            None => format!("{name}[{at}].dropna()"),
                            Some(unit) => format!(
                                "pd.to_datetime({name}[{at}].dropna().astype(\"int64\"), unit=\"{}\")",
                                unit.name()
                            ),
                        };
                        format!(
                            "counts = pd.Series(1, pd.DatetimeIndex({instants})).resample(\"{pandas}\").sum()\nx, y = counts.index, counts.values\n"
                        )
                    }
                    (Engine::Polars, _) => {
                        let instants = match since {
                            None => format!("pl.col({at})"),
                            Some(unit) => {
                                format!("pl.from_epoch({at}, time_unit=\"{}\")", unit.name())
                            }
                        };
                        format!(
                            "counts = {name}.drop_nulls({at}).group_by({instants}.dt.truncate(\"{polars}\").alias(\"at\")).len().sort(\"at\")\nx, y = counts[\"at\"].to_list(), counts[\"len\"].to_list()\n"
                        )
                    }
                    (Engine::Duckdb, _) => {
                        let instants = match since {
                            None => format!("CAST({c} AS TIMESTAMP)"),
                            Some(Since::Seconds) => format!("epoch_ms({c} * 1000)"),
                            Some(Since::Millis) => format!("epoch_ms({c})"),
                        };
                        Self::asked(&format!(
                            "SELECT date_trunc('{sql}', {instants}), count(*) FROM {table} WHERE {c} IS NOT NULL GROUP BY 1 ORDER BY 1"
                        ))
                    }
                };
                text.push_str(&read);
                let _ = writeln!(
                    text,
                    "figure, axes = plt.subplots()\naxes.bar(x, y, width={days}, align=\"edge\", edgecolor=\"white\", linewidth=0.4)"
                );
                text += &self.title(&format!("records {word}, by {time}"));
                text += "plt.show()";
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
                text += "plt.show()";
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
                text += &self.bars(&format!("records by {column}"), NUMBER);
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
                text += &self.bars(&format!("mean {number} by {group}"), NUMBER);
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
                text += &self.bars(&format!("greatest {number}, by {label}"), NUMBER);
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
                text += &self.bars("share of records with a value", "{:.0%}");
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

    /// Bars of `x` and `y`, each with its value, written as Python's `format` takes it.
    fn bars(&self, what: &str, value: &str) -> String {
        format!(
            "figure, axes = plt.subplots(figsize=(9, 0.6 + 0.3 * max(len(x), 3)))\nlabels = [\" \".join(str(label).split())[:40] for label in x]\nbars = axes.barh(range(len(labels)), y, tick_label=labels)\naxes.bar_label(bars, fmt=\"{value}\", padding=3)\naxes.invert_yaxis()\naxes.margins(x=0.1)\naxes.grid(axis=\"y\", visible=False)\n{}plt.show()",
            self.title(what)
        )
    }
}
