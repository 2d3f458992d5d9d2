/** What the numbers suggest, each with what it was read from. */
import type { Advice } from "../api/contract";
import { setZoom } from "../state/axes";
import { amend } from "../state/route";
import { plain as formatValue } from "../text/format";
import { Icon } from "../ui/icons";

export function AdviceCards({ advice }: { advice: readonly Advice[] }) {
  if (!advice.length) return null;
  return (
    <div class="advice" role="region" aria-label="Advice">
      {advice.map((each) => (
        <article key={`${each.kind} ${each.title}`} class={each.severity}>
          <h3><Icon name={each.severity === "warning" ? "warning" : "info"} />{each.title}</h3>
          <p>{each.text.split("`").map((part, index) => (index % 2 ? <code key={index}>{part}</code> : part))}</p>
          <Evidence of={each.evidence} />
        </article>
      ))}
    </div>
  );
}

function Evidence({ of }: { of: Advice["evidence"] }) {
  const { metric, from, to, ...others } = of;
  const seen = (): void => {
    amend({ chart: undefined, metric: undefined, x: undefined });
    if (typeof from === "number" && typeof to === "number" && from < to) setZoom([from, to]);
  };
  return (
    <p class="evidence">
      {metric && <code>{metric}</code>}
      {typeof from === "number" && typeof to === "number" && (
        <button type="button" class="link-button" onClick={seen}>steps {from.toLocaleString("en-US")} to {to.toLocaleString("en-US")}</button>
      )}
      {Object.entries(others).map(([name, value]) => <span key={name}>{name.replaceAll("_", " ")}: {show(value)}</span>)}
    </p>
  );
}

function show(value: unknown): string {
  if (Array.isArray(value)) return value.map(show).join(", ");
  if (value !== null && typeof value === "object") return JSON.stringify(value);
  return formatValue(value as string | number | boolean | null);
}
