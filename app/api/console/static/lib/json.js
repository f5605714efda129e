// JSON in which every number keeps its text: 9007199254740993 and 1.0 are written back as they were read.

const random = new Uint32Array(4)
const MARK = crypto.getRandomValues(random).join('-') + ':'
const QUOTE = 34, BACKSLASH = 92, MINUS = 45, ZERO = 48, NINE = 57
// Unicode's controls, and characters that reorder or hide text.
const HIDDEN = /[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g

/** A number whose text JavaScript would not write back in the same way. */
export class Exact {
  constructor(text) { this.text = text }
  valueOf() { return Number(this.text) }
  toString() { return this.text }
}

/** Parse JSON. Throws SyntaxError. */
export function parse(text) {
  JSON.parse(text)
  return JSON.parse(marked(text), (_, value) =>
    typeof value === 'string' && value.startsWith(MARK) ? new Exact(value.slice(MARK.length)) : value)
}

function marked(text) {
  let out = '', copied = 0, at = 0
  while (at < text.length) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) {
      at++
      while (at < text.length && text.charCodeAt(at) !== QUOTE) at += text.charCodeAt(at) === BACKSLASH ? 2 : 1
      at++
    } else if (code === MINUS || (code >= ZERO && code <= NINE)) {
      const start = at
      while (at < text.length && /[-+.\deE]/.test(text[at])) at++
      const token = text.slice(start, at)
      if (String(Number(token)) !== token) {
        out += `${text.slice(copied, start)}"${MARK}${token}"`
        copied = at
      }
    } else at++
  }
  return out + text.slice(copied)
}

/** An integer from its digits: a number if that is exact, else Exact. */
export const integer = (text) => (String(Number(text)) === text ? Number(text) : new Exact(text))

const quoted = (text) =>
  JSON.stringify(text).replace(HIDDEN, (char) => '\\u' + char.charCodeAt(0).toString(16).padStart(4, '0'))

/** JSON of a value. With `indent`, on several lines if it is long. */
export function stringify(value, indent = 0, level = 0) {
  if (value instanceof Exact) return value.text
  if (typeof value === 'string') return quoted(value)
  if (value === null || typeof value !== 'object') return JSON.stringify(value) ?? 'null'
  const isArray = Array.isArray(value)
  const parts = isArray
    ? value.map((item) => stringify(item, indent, level + 1))
    : Object.entries(value).filter(([, item]) => item !== undefined)
      .map(([name, item]) => `${quoted(name)}:${indent ? ' ' : ''}${stringify(item, indent, level + 1)}`)
  const [open, close] = isArray ? '[]' : '{}'
  if (!indent) return open + parts.join(',') + close
  const line = open + parts.join(', ') + close
  if (line.length + level * indent <= 80 && !line.includes('\n')) return line
  const pad = ' '.repeat(indent * (level + 1))
  return `${open}\n${pad}${parts.join(`,\n${pad}`)}\n${' '.repeat(indent * level)}${close}`
}
