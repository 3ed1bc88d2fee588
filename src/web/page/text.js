// Turns the text of a message into nodes: links and code. Everything else stays literal. Text from
// the network only ever becomes text nodes, never markup.

/** Creates an element. */
function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Creates a button. */
function buttonOf(text, className, action) {
  const made = element('button', className, text);
  made.type = 'button';
  made.addEventListener('click', action);
  return made;
}

// A URL ends at white space, at quotes, and at punctuation that no URL contains: that of Chinese,
// Japanese and Korean, and the quotation marks of typographers.
const URLS =
  /https?:\/\/[^\s<>"'`\u0000-\u0020\u2018-\u201f\u2026\u2039\u203a\u00ab\u00bb\u3000-\u3003\u3008-\u3011\u3014-\u301f\uff01-\uff09\uff0c\uff0e\uff1a\uff1b\uff1f\uff3b\uff3d\uff5b-\uff65]+/gi;
const PAIRS = { ')': '(', ']': '[', '}': '{' };

/** Removes the punctuation after a URL, which belongs to the sentence. A bracket stays if the URL opens it. */
function withoutPunctuation(address) {
  let end = address.length;
  while (end > 0) {
    const last = address[end - 1];
    const opening = PAIRS[last];
    const inside = address.slice(0, end);
    const isOpened = opening && inside.split(opening).length >= inside.split(last).length;
    if (isOpened || !(opening || '.,;:!?*_~'.includes(last))) break;
    end -= 1;
  }
  return address.slice(0, end);
}

// Scripts that occur together in one language. Any other mixture may imitate a known name.
const SCRIPTS = [
  'Latin',
  'Cyrillic',
  'Greek',
  'Armenian',
  'Hebrew',
  'Arabic',
  'Devanagari',
  'Thai',
  'Georgian',
  'Hangul',
  'Bopomofo',
  'Hiragana',
  'Katakana',
  'Han',
];
const TOGETHER = [
  ['Latin', 'Han', 'Hiragana', 'Katakana'],
  ['Latin', 'Han', 'Hangul'],
  ['Latin', 'Han', 'Bopomofo'],
];
const PATTERNS = SCRIPTS.map((script) => [script, new RegExp(`\\p{Script=${script}}`, 'u')]);

/** Returns whether a host name mixes scripts, as in a Latin name with one Cyrillic letter. */
function mixesScripts(host) {
  const known = PATTERNS.filter(([, pattern]) => pattern.test(host)).map(([script]) => script);
  const isUnknown = [...host].some(
    (letter) => /\p{L}/u.test(letter) && !PATTERNS.some(([, pattern]) => pattern.test(letter)),
  );
  const are = isUnknown ? [...known, 'other'] : known;
  return are.length > 1 && !TOGETHER.some((set) => are.every((script) => set.includes(script)));
}

/** Returns the URL in `found` with the text to show for it, or `null` if it should not be a link. */
function readLink(found) {
  const address = withoutPunctuation(found);
  let url;
  try {
    url = new URL(address);
  } catch {
    return null;
  }
  // A user name before the host looks like another host.
  if (!['http:', 'https:'].includes(url.protocol) || url.username || url.password) return null;
  const [, scheme, host, rest] = /^(https?:\/\/)([^/?#]*)([^]*)$/i.exec(address);
  return { address, href: url.href, label: mixesScripts(host) ? `${scheme}${url.host}${rest}` : address };
}

/** Turns the URLs in a text into links. */
function linked(text) {
  const parts = document.createDocumentFragment();
  let end = 0;
  for (const found of text.matchAll(URLS)) {
    const link = readLink(found[0]);
    if (!link) continue;
    parts.append(text.slice(end, found.index));
    const anchor = element('a', '', link.label);
    anchor.href = link.href;
    anchor.target = '_blank';
    anchor.rel = 'noopener noreferrer';
    parts.append(anchor);
    end = found.index + link.address.length;
  }
  parts.append(text.slice(end));
  return parts;
}

/** Turns `code` and blocks of it into elements, and the URLs elsewhere into links. */
function formatted(text) {
  const parts = document.createDocumentFragment();
  let end = 0;
  for (const found of text.matchAll(/```(?:[a-z0-9+-]*\n)?([^]+?)\n?```\n?|`([^`\n]+)`/gi)) {
    const [whole, block, inline] = found;
    parts.append(linked(text.slice(end, found.index).replace(block ? /\n$/ : /$^/, '')));
    if (block) {
      const pre = element('pre');
      pre.append(element('code', '', block));
      parts.append(pre);
    } else {
      parts.append(element('code', '', inline));
    }
    end = found.index + whole.length;
  }
  parts.append(linked(text.slice(end)));
  return parts;
}

/** Returns whether the text mentions the name as a word. */
function mentions(text, name) {
  if (!name) return false;
  const escaped = name.replace(/[.-]/g, '\\$&');
  return new RegExp(`(^|[^a-z0-9_.-])${escaped}(?![a-z0-9_-]|\\.[a-z0-9])`, 'i').test(text);
}

/** Returns the initial for a name's picture. */
function initial(name) {
  return shown([...name][0] ?? '?').toUpperCase();
}

/** Assigns colours: a name keeps its own if possible, and no two names in one conversation share one. */
class Colours {
  static COUNT = 12;

  constructor() {
    this.taken = new Map();
  }

  of(name) {
    const key = name.toLowerCase();
    let slot = this.taken.get(key);
    if (slot === undefined) {
      let sum = 7;
      for (const letter of key) sum = (sum * 31 + letter.codePointAt(0)) % 65521;
      slot = sum % Colours.COUNT;
      const used = new Set(this.taken.values());
      for (let step = 0; used.has(slot) && step < Colours.COUNT; step += 1) slot = (slot + 5) % Colours.COUNT;
      if (this.taken.size > 500) this.taken.clear();
      this.taken.set(key, slot);
    }
    return slot * (360 / Colours.COUNT);
  }
}

/** Returns a day relative to today. */
function dayOf(when, now = new Date()) {
  const midnight = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate());
  const days = Math.round((midnight(now) - midnight(when)) / 86400000);
  if (days === 0) return 'Today';
  if (days === 1) return 'Yesterday';
  if (days > 1 && days < 7) return when.toLocaleDateString(undefined, { weekday: 'long' });
  return when.toLocaleDateString(undefined, { weekday: 'long', year: 'numeric', month: 'long', day: 'numeric' });
}
