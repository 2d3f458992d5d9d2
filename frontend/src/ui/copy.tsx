/** A button that puts text on the clipboard, and says that it has. */
import { useState } from "preact/hooks";
import { Icon } from "./icons";

const SAID = 1500; // ms that "copied" stands

/** Without a secure origin there is no clipboard API: then a selected text field and the old command. */
async function put(text: string): Promise<void> {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

export function Copy({ text, label, children }: { text: string | (() => string); label: string; children?: string }) {
  const [said, setSaid] = useState("");
  const copy = (): void => {
    put(typeof text === "string" ? text : text()).then(
      () => setSaid("copied"),
      () => setSaid("not allowed"),
    );
    setTimeout(() => setSaid(""), SAID);
  };
  return (
    <button type="button" class={children ? "" : "quiet-button"} title={label} aria-label={label} onClick={copy}>
      <Icon name={children ? "link" : "copy"} />
      {said ? <span role="status">{said}</span> : children}
    </button>
  );
}
