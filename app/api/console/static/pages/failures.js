// Failed jobs in groups of one function and one type of error.

import { may, useResource } from '../lib/api.js'
import { count } from '../lib/format.js'
import { to } from '../lib/router.js'
import { Badge, Curl, Empty, FunctionLink, JobLink, Page, Panel, Ready, Table, Time, html } from '../lib/ui.js'
import { Spark } from '../lib/chart.js'
import { openBulk } from '../lib/bulk.js'
import { Spans, everyOf, useSpan } from './overview.js'

const MOST_TRENDS = 20

export function Failures() {
  const failures = useResource('/failures', { every: 60, gap: 15 }) // it reads up to 10,000 jobs
  const groups = failures.data?.failures ?? []
  const drawn = new Set([...new Set(groups.map((group) => group.function))].filter(Boolean).slice(0, MOST_TRENDS))
  const filter = (group) => ({ function: group.function, error: group.error, status: 'failed' })
  return html`<${Page} title="Failures" lead="Jobs that failed for good, by function and type of error" actions=${html`<${Spans} path="/failures"/>`}>
    <${Ready} of=${failures}>${(data) => html`${!data.complete && html`<p class="notice warn">There are very many: only the newest 10,000 failed jobs are counted.</p>`}
      <${Panel} flush=${true}><${Table} label="Failures" rows=${data.failures} keyOf=${(group) => `${group.function} ${group.error}`}
        empty=${html`<${Empty} title="No failed job is kept."><p>To see one here:</p><${Curl} path="/functions/demo.fail/jobs" body='{"message": "an example"}'/></${Empty}>`}
        columns=${[
          { name: 'Error', class: 'wide', sort: (group) => group.error, cell: (group) => html`<a href=${to('/jobs', filter(group))}>${group.error}</a><p class="sub clip">${group.message}</p>` },
          { name: 'Function', sort: (group) => group.function, cell: (group) => html`<${FunctionLink} name=${group.function}/><p class="sub">${group.queues.join(', ')}</p>` },
          { name: 'Failures of the function', cell: (group) => (drawn.has(group.function) ? html`<${Trend} name=${group.function}/>` : null) },
          { name: 'Jobs', number: true, sort: (group) => group.count, cell: (group) => count(group.count) },
          { name: 'First', sort: (group) => group.first_seen, cell: (group) => html`<${Time} at=${group.first_seen} relative=${true}/>` },
          { name: 'Last', sort: (group) => group.last_seen, cell: (group) => html`<${Time} at=${group.last_seen} relative=${true}/>` },
          { name: 'Latest', cell: (group) => html`<span class="clip-id"><${JobLink} id=${group.example}/></span>` },
          { name: 'Actions', hidden: true, cell: (group) => html`<span class="row-actions">${may('enqueue') && group.function && html`<button class="small" onClick=${() => openBulk('requeue', filter(group), `${group.error} of ${group.function}`)}>Replay…</button>`}
            ${may('admin') && group.function && html`<button class="small" onClick=${() => openBulk('delete', filter(group), `${group.error} of ${group.function}`)}>Delete…</button>`}</span>` },
        ]}/></${Panel}>`}</${Ready}></${Page}>`
}

function Trend({ name }) {
  const span = useSpan(), stats = useResource(to('/stats', { function: name, from: span }), { every: Math.max(15, everyOf(span)), gap: 10 })
  if (!stats.data) return html`<span class="faint">–</span>`
  const failed = stats.data.points.map((point) => Number(point.failed))
  const size = Math.ceil(failed.length / 48)
  return html`<${Spark} tone="bad" label=${`Failures of ${name}`} values=${Array.from({ length: Math.ceil(failed.length / size) }, (_, at) => failed.slice(at * size, (at + 1) * size).reduce((sum, one) => sum + one, 0))}/>`
}
