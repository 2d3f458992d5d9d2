/** A long list of rows of one height, of which only those in sight are in the document. */
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

const SPARE = 8; // rows above and below what is seen, so that scrolling shows no gaps; guess

interface VirtualProps {
  count: number;
  rowHeight: number;
  row: (index: number) => JSX.Element;
  label: string;
  role: "table" | "list";
  head?: ComponentChildren;
  /** A row that must be in sight. */
  reveal?: number;
}

export function Virtual({ count, rowHeight, row, label, role, head, reveal = -1 }: VirtualProps) {
  const host = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  useEffect(() => {
    const element = host.current!;
    const look = (): void => setView({ top: element.scrollTop, height: element.clientHeight });
    const observer = new ResizeObserver(look);
    observer.observe(element);
    element.addEventListener("scroll", look, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, []);
  useEffect(() => {
    const element = host.current!;
    if (reveal < 0) return;
    const top = reveal * rowHeight;
    const headHeight = element.querySelector<HTMLElement>(".virtual-head")?.offsetHeight ?? 0;
    if (top < element.scrollTop) element.scrollTop = top;
    else if (top + rowHeight > element.scrollTop + element.clientHeight - headHeight) element.scrollTop = top + rowHeight - element.clientHeight + headHeight;
  }, [reveal, rowHeight]);
  const first = Math.max(0, Math.floor(view.top / rowHeight) - SPARE);
  const last = Math.min(count, Math.ceil((view.top + view.height) / rowHeight) + SPARE);
  const rows: JSX.Element[] = [];
  for (let index = first; index < last; index++) rows.push(row(index));
  return (
    <div class="virtual" ref={host} role={role} aria-label={label} aria-rowcount={role === "table" ? count + 1 : undefined} tabIndex={-1}>
      {head && <div class="virtual-head" role="rowgroup">{head}</div>}
      <div class="virtual-body" role={role === "table" ? "rowgroup" : "presentation"} style={{ height: `${count * rowHeight}px`, paddingTop: `${first * rowHeight}px` }}>
        {rows}
      </div>
    </div>
  );
}
