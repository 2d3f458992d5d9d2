/** A button that opens a list of things to do; arrows walk through it, Escape closes it. */
import { useEffect, useRef, useState } from "preact/hooks";
import { Icon } from "./icons";

export type MenuItem = { text: string; run: () => void; key?: string; checked?: boolean; keep?: boolean } | "line";

export function Menu({ label, items, text }: { label: string; items: readonly MenuItem[]; text?: string }) {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return undefined;
    root.current!.querySelector<HTMLElement>("[role^=menuitem]")?.focus();
    const outside = (event: Event): void => {
      if (!root.current!.contains(event.target as Node)) setOpen(false);
    };
    document.addEventListener("pointerdown", outside);
    return () => document.removeEventListener("pointerdown", outside);
  }, [open]);
  const onKeyDown = (event: KeyboardEvent): void => {
    if (!open) return;
    const all = [...root.current!.querySelectorAll<HTMLElement>("[role^=menuitem]")];
    const at = all.indexOf(document.activeElement as HTMLElement);
    if (event.key === "ArrowDown") all[(at + 1) % all.length]?.focus();
    else if (event.key === "ArrowUp") all[(at - 1 + all.length) % all.length]?.focus();
    else if (event.key === "Escape" || event.key === "Tab") {
      setOpen(false);
      if (event.key === "Escape") root.current!.querySelector("button")!.focus();
    }
    if (event.key !== "Tab" && event.key !== "Enter" && event.key !== " ") event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div class="menu" ref={root} onKeyDown={onKeyDown}>
      <button type="button" class={text ? "" : "quiet-button"} aria-haspopup="menu" aria-expanded={open} aria-label={text ? undefined : label} title={label} onClick={() => setOpen(!open)}>
        {text ?? <Icon name="more" />}
        {text && <Icon name="down" />}
      </button>
      {open && (
        <div class="menu-list" role="menu" aria-label={label}>
          {items.map((item, index) =>
            item === "line" ? (
              <hr key={`line ${index}`} />
            ) : (
              <button
                key={item.text} type="button" role={item.checked === undefined ? "menuitem" : "menuitemcheckbox"} aria-checked={item.checked} tabIndex={-1}
                onClick={() => {
                  if (!item.keep) setOpen(false);
                  item.run();
                }}
              >
                {item.checked !== undefined && <i class="tick">{item.checked ? "✓" : ""}</i>}
                <span>{item.text}</span>
                {item.key && <kbd>{item.key}</kbd>}
              </button>
            ),
          )}
        </div>
      )}
    </div>
  );
}
