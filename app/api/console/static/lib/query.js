// The search box: `status:failed function:demo.add some text` as parameters of the API, and back.

import { useId, useRef, useState } from 'preact/hooks'
import { html } from './ui.js'

export const QUALIFIERS = ['status', 'function', 'queue', 'tag', 'error', 'since', 'until']
export const STATUSES = ['queued', 'started', 'scheduled', 'deferred', 'failed', 'stopped', 'finished', 'canceled']
const TOKEN = /(?:(\w+):)?(?:"([^"]*)"?|(\S+))/g
const AGE = /^(\d+)(s|m|h|d)$/
const SIZES = { s: 1, m: 60, h: 3600, d: 86400 }

export function readQuery(text) {
  const found = {}, words = []
  for (const [whole, name, inQuotes, plain] of text.matchAll(TOKEN)) {
    if (QUALIFIERS.includes(name)) found[name] = inQuotes ?? plain
    else words.push(name ? whole : inQuotes ?? plain)
  }
  if (words.length) found.q = words.join(' ')
  return found
}

const quote = (value) => (/[\s"]/.test(value) ? `"${value.replaceAll('"', '')}"` : value)

export const writeQuery = (filter) => [
  ...QUALIFIERS.filter((name) => filter[name]).map((name) => `${name}:${quote(filter[name])}`), ...(filter.q ? [filter.q] : []),
].join(' ')

/** The filter as the API has it: ages such as 2h become times. */
export function asParameters(filter, now = Date.now()) {
  const found = { ...filter }
  for (const name of ['since', 'until']) {
    const age = AGE.exec(found[name] ?? '')
    // full minutes, so that a list keeps its URL for a while
    if (age) found[name] = new Date(Math.floor((now - age[1] * SIZES[age[2]] * 1000) / 60_000) * 60_000).toISOString()
  }
  return found
}

/** `values(name)`: what may follow this qualifier. */
export function SearchBox({ text, onSearch, values }) {
  const [typed, setTyped] = useState(text), [known, setKnown] = useState(text)
  const [open, setOpen] = useState(false), [active, setActive] = useState(-1)
  const ref = useRef(), id = useId()
  if (known !== text) { setKnown(text); if (typed.trim() !== text) setTyped(text) }

  const caret = ref.current?.selectionStart ?? typed.length
  const start = typed.lastIndexOf(' ', caret - 1) + 1
  const word = typed.slice(start, caret)
  const [name, begun] = word.includes(':') ? [word.slice(0, word.indexOf(':')), word.slice(word.indexOf(':') + 1)] : [null, word]
  const options = !open ? [] : name !== null
    ? (QUALIFIERS.includes(name) ? values(name).filter((value) => value.toLowerCase().includes(begun.toLowerCase()) && value !== begun).slice(0, 12).map((value) => `${name}:${quote(value)} `) : [])
    : QUALIFIERS.filter((one) => one.startsWith(begun) && !typed.includes(`${one}:`)).map((one) => `${one}:`)

  const choose = (option) => {
    const next = typed.slice(0, start) + option + typed.slice(caret).trimStart()
    setTyped(next)
    setActive(-1)
    if (option.endsWith(' ')) { setOpen(false); onSearch(next.trim()) }
    queueMicrotask(() => { ref.current.value = next; ref.current.setSelectionRange(start + option.length, start + option.length); ref.current.focus() })
  }
  const press = (event) => {
    if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      event.preventDefault()
      setOpen(true)
      if (options.length) setActive((active + (event.key === 'ArrowDown' ? 1 : options.length) + (active < 0 && event.key === 'ArrowUp' ? 1 : 0)) % options.length)
    } else if (event.key === 'Escape') { setOpen(false); setActive(-1) }
    else if (event.key === 'Tab' && open && active >= 0) { event.preventDefault(); choose(options[active]) }
    else if (event.key === 'Enter') {
      event.preventDefault()
      if (open && active >= 0 && options[active]) choose(options[active])
      else { setOpen(false); onSearch(typed.trim()) }
    }
  }
  return html`<div class="search"><label class="unseen" for=${id}>Filter jobs</label>
    <input id=${id} ref=${ref} type="text" data-search role="combobox" aria-expanded=${options.length > 0} aria-controls=${`${id}-list`} aria-autocomplete="list"
      aria-activedescendant=${active >= 0 && options[active] ? `${id}-${active}` : undefined} autocomplete="off" spellcheck=${false}
      placeholder="status:failed function:demo.add queue:default tag:x error:ValueError since:2h text" value=${typed}
      onInput=${(event) => { setTyped(event.target.value); setOpen(true); setActive(-1) }} onFocus=${() => setOpen(true)}
      onClick=${() => setOpen(true)} onBlur=${() => setTimeout(() => setOpen(false), 150)} onKeyDown=${press}/>
    <kbd aria-hidden="true">/</kbd>
    <ul id=${`${id}-list`} role="listbox" aria-label="Completions" hidden=${!options.length}>${options.map((option, index) => html`<li id=${`${id}-${index}`} key=${option} role="option"
      aria-selected=${index === active} onMouseDown=${(event) => { event.preventDefault(); choose(option) }}>${option.trim()}</li>`)}</ul></div>`
}
