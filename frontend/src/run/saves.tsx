/** Every save of a run that is still kept. */
import type { RunDetail } from "../api/contract";
import { bytes, compact, metric as formatMetric, number } from "../text/format";
import { Copy } from "../ui/copy";
import { scoresOf } from "./checkpoint";
import { openCheckpoint } from "./checkpoint-state";

export function Saves({ detail }: { detail: RunDetail }) {
  if (!detail.checkpoints.length) return <p class="quiet padded">Nothing is saved yet, or nothing is kept any more.</p>;
  const metrics = [...new Set(detail.checkpoints.flatMap(({ metrics: names }) => Object.keys(names)))].toSorted();
  const scores = scoresOf(detail.checkpoints);
  return (
    <section class="padded wide">
      <table class="events saves">
        <thead>
          <tr><th class="figure">step</th><th class="figure">epoch</th><th class="figure">tokens</th>{metrics.map((name) => <th key={name} class="figure">{name}</th>)}{scores.map(({ suite, metric }) => <th key={`${suite} ${metric}`} class="figure">{metric}<br />{suite}</th>)}<th class="figure">size</th><th>names</th><th>load</th></tr>
        </thead>
        <tbody>
          {detail.checkpoints.toReversed().map((save) => (
            <tr key={save.commit}>
              <td class="figure"><button type="button" class="link-button" onClick={() => openCheckpoint(detail.name, save.step)}>{save.step.toLocaleString("en-US")}</button></td>
              <td class="figure">{number(save.epoch)}</td>
              <td class="figure">{compact(save.tokens)}</td>
              {metrics.map((name) => <td key={name} class="figure">{name in save.metrics ? formatMetric(name, save.metrics[name]) : "–"}</td>)}
              {scores.map(({ suite, metric }) => <td key={`${suite} ${metric}`} class="figure">{metric in (save.evaluations[suite] ?? {}) ? formatMetric(metric, save.evaluations[suite]![metric]!.value) : "–"}</td>)}
              <td class="figure">{bytes(save.bytes)}</td>
              <td>{save.refs.map((ref) => <span key={ref} class={`tag ${ref}`}>{ref}</span>)}</td>
              <td>{Object.entries(save.load).map(([tool, command]) => <span key={tool} class="load">{tool}<Copy text={command} label={`Copy the ${tool} command`} /></span>)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
