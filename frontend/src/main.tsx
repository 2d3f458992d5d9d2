import "uplot/dist/uPlot.min.css";
import "./style/base.css";
import "./style/shell.css";
import "./style/table.css";
import "./style/charts.css";
import "./style/run.css";
import { render } from "preact";
import { App } from "./app";
import { startRuns } from "./state/runs";

const SOON = 150; // ms for the runs to come before the page is drawn, so that it is drawn once; guess

void Promise.race([startRuns(), new Promise((resolve) => setTimeout(resolve, SOON))]).then(() => render(<App />, document.getElementById("page")!));
