/** A modal window: the browser's own <dialog> keeps the focus inside and closes on Escape. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Icon } from "./icons";

export function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current!.showModal(), []);
  return (
    <dialog
      ref={dialog} aria-label={title} onClose={onClose}
      onClick={(event) => {
        if (event.target === dialog.current) dialog.current!.close(); // the backdrop belongs to the dialog's own box
      }}
    >
      <header>
        <h2>{title}</h2>
        <button type="button" class="quiet-button" aria-label="Close" onClick={() => dialog.current!.close()}>
          <Icon name="close" />
        </button>
      </header>
      {children}
    </dialog>
  );
}
