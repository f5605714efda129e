// Changes of many jobs: count first, then change in requests of a few seconds each.

import { useEffect, useRef, useState } from 'preact/hooks'
import { post, refresh } from './api.js'
import { count } from './format.js'
import { html, openDialog, say } from './ui.js'

const DONE = { requeue: 'requeued', cancel: 'canceled', delete: 'deleted' }
const VERBS = { requeue: 'Requeue', cancel: 'Cancel', delete: 'Delete' }

export function openBulk(action, filter, what = 'matching jobs') {
  openDialog(`${VERBS[action]} ${what}`, (close) => html`<${Bulk} ...${{ action, filter, close }}/>`)
}

function Bulk({ action, filter, close }) {
  const [counted, setCounted] = useState({ matched: 0, done: false }), [changed, setChanged] = useState(null), [error, setError] = useState(null)
  const stopped = useRef(false)
  const body = { ...filter, ...(action === 'requeue' || Object.keys(filter).length ? {} : { all: true }) }
  const each = async (extra, tell) => {
    let cursor = null
    do {
      const answer = await post(`/jobs/${action}`, { ...body, ...extra, ...(cursor ? { cursor } : {}) })
      cursor = answer.next_cursor
      tell(answer, !cursor)
    } while (cursor && !stopped.current)
  }
  useEffect(() => {
    let matched = 0
    each({ dry_run: true }, (answer, done) => setCounted({ matched: (matched += answer.matched), done })).catch(setError)
    return () => { stopped.current = true }
  }, [])
  const run = async () => {
    const sum = { changed: 0, skipped: 0, done: false }
    setChanged({ ...sum })
    try {
      await each({}, (answer, done) => {
        sum.changed += answer[DONE[action]]
        sum.skipped += answer.skipped
        sum.done = done
        setChanged({ ...sum })
      })
      if (sum.done) {
        say(`${count(sum.changed)} ${DONE[action]}${sum.skipped ? `, ${count(sum.skipped)} skipped` : ''}`)
        close()
      }
    } catch (caught) { setError(caught) }
    refresh()
  }
  const filters = Object.entries(filter)
  return html`<div class="dialog-body">
    ${filters.length ? html`<p class="chips">${filters.map(([name, value]) => html`<code>${name}: ${value}</code>`)}</p>` : html`<p><strong>All jobs</strong>: there is no filter.</p>`}
    <p class="big" role="status">${changed ? html`${count(changed.changed)} ${DONE[action]}${changed.skipped ? html`, ${count(changed.skipped)} skipped` : ''} …`
      : html`${count(counted.matched)} ${counted.matched === 1 ? 'job' : 'jobs'}${counted.done ? '' : ' counted so far …'}`}</p>
    ${action === 'delete' && html`<p class="muted">Their results and histories are deleted too. Running jobs are skipped.</p>`}
    ${action === 'cancel' && html`<p class="muted">Running jobs are stopped.</p>`}
    ${error && html`<div class="notice bad" role="alert"><p>${error.message}</p></div>`}</div>
    <div class="dialog-foot"><button onClick=${close}>${changed ? 'Stop' : 'Keep as they are'}</button>
      <button class=${action === 'requeue' ? 'primary' : 'danger'} disabled=${Boolean(changed) || Boolean(error) || (counted.done && !counted.matched)} onClick=${run}>${VERBS[action]} ${counted.done ? count(counted.matched) : 'all'}</button></div>`
}
