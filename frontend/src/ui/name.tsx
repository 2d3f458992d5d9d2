/** A run's name: what it is stands out, when it began stays back. */
import { formatHash } from "../state/address";
import { splitName } from "../text/format";

export function RunName({ name, link = true }: { name: string; link?: boolean }) {
  const { what, when } = splitName(name);
  const parts = (
    <>
      <b>{what}</b>
      {when && <span> {when}</span>}
    </>
  );
  return link ? <a class="run-name" href={formatHash(["run", name])} title={name}>{parts}</a> : <span class="run-name" title={name}>{parts}</span>;
}
