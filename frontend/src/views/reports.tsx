/** Every report of the home: of corpora, whether a run was made from them or not, of ablations, of runs. */
import { useEffect } from "preact/hooks";
import { fetchReports } from "../api/client";
import type { Report } from "../api/contract";
import { ReportFrame } from "../run/texts";
import { amend, useQuery } from "../state/route";
import { ago, clock } from "../text/format";
import { useAnswer, Waiting } from "../ui/answer";

export function ReportsView() {
  const answer = useAnswer(fetchReports, "");
  const wanted = useQuery("page");
  const words = useQuery("filter").toLowerCase();
  const all = answer.value ?? [];
  const shown = all.filter(({ title, of }) => `${title} ${of}`.toLowerCase().includes(words));
  const open = all.find(({ url }) => url === wanted) ?? shown[0];
  useEffect(() => {
    document.querySelector(".report-list [aria-current]")?.scrollIntoView({ block: "nearest" });
  }, [open?.url]);
  if (!answer.value) return <main class="padded"><Waiting answer={answer} /></main>;
  if (!all.length) return <main class="padded"><p class="quiet">There are no reports yet. A recipe's corpus writes one when it is made, and so do ablations and evaluations.</p></main>;
  return (
    <main class="reports-view">
      <nav class="report-list" aria-label="Reports">
        <input type="search" class="filter" placeholder="filter" aria-label="Filter reports" value={words} spellcheck={false} onInput={(event) => amend({ filter: event.currentTarget.value })} />
        <ul>
          {shown.map((report) => <li key={report.url}><Row report={report} open={report === open} /></li>)}
          {!shown.length && <li class="quiet padded">none has these words</li>}
        </ul>
      </nav>
      {open && <ReportFrame title={open.title} url={open.url} />}
    </main>
  );
}

function Row({ report, open }: { report: Report; open: boolean }) {
  return (
    <button type="button" aria-current={open ? "true" : undefined} onClick={() => amend({ page: report.url })}>
      <b>{report.title}</b>
      <span class="quiet" title={clock(report.made)}>{ago(report.made, Date.now() / 1000)}</span>
      <span class="quiet of">{report.of}</span>
    </button>
  );
}
