import "uplot/dist/uPlot.min.css";
import "./style/base.css";
import "./style/shell.css";
import "./style/table.css";
import "./style/charts.css";
import "./style/run.css";
import { render } from "preact";
import { App } from "./app";
import { startRuns } from "./state/runs";

startRuns();
render(<App />, document.getElementById("page")!);
