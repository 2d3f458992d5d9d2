/** Tags, notes and group of a run, which people write and nothing reads but people. */
import { useState } from "preact/hooks";
import { saveNotes } from "../api/client";
import type { Notes, RunSummary } from "../api/contract";
import { PALETTE, colourAt } from "../state/palette";
import { runsStore } from "../state/runs";
import { isDark, settings, useSettings } from "../state/settings";
import { Dialog } from "../ui/dialog";

export function NotesDialog({ run, onClose }: { run: RunSummary; onClose: () => void }) {
  const [tags, setTags] = useState(run.tags.join(", "));
  const [notes, setNotes] = useState(run.notes);
  const [group, setGroup] = useState(run.group);
  const [error, setError] = useState("");
  const place = useSettings((value) => value.colours[run.name] ?? 0);
  const dark = useSettings((value) => isDark(value.theme));
  const save = async (event: Event): Promise<void> => {
    event.preventDefault();
    const written: Notes = { tags: tags.split(",").map((tag) => tag.trim()).filter(Boolean), notes, group: group.trim() };
    try {
      await saveNotes(run.name, written);
    } catch (refused) {
      setError((refused as Error).message);
      return;
    }
    const { runs, byName } = runsStore.get();
    const now = { ...byName.get(run.name)!, ...written };
    runsStore.set({ runs: runs.map((each) => (each.name === run.name ? now : each)), byName: new Map(byName).set(run.name, now) });
    onClose();
  };
  return (
    <Dialog title={run.name} onClose={onClose}>
      <form class="notes" onSubmit={(event) => void save(event)}>
        <label class="field"><span>tags, with commas between</span><input value={tags} onInput={(event) => setTags(event.currentTarget.value)} /></label>
        <label class="field"><span>group</span><input value={group} onInput={(event) => setGroup(event.currentTarget.value)} /></label>
        <label class="field"><span>notes</span><textarea rows={4} value={notes} onInput={(event) => setNotes(event.currentTarget.value)} /></label>
        <fieldset class="colours">
          <legend>colour, in this browser</legend>
          {PALETTE.map((_, index) => (
            <label key={index}>
              <input type="radio" name="colour" aria-label={`colour ${index + 1}`} checked={place === index} onChange={() => settings.set({ colours: { ...settings.get().colours, [run.name]: index } })} />
              <i style={{ background: colourAt(index, dark) }} />
            </label>
          ))}
        </fieldset>
        {error && <p class="bad" role="alert">{error}</p>}
        <button type="submit" class="main-button">Save</button>
      </form>
    </Dialog>
  );
}
