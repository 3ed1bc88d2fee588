// The box in which messages are written: each conversation's own draft, suggestions, and the lines
// sent before.

const MOST_SENT = 30;

class Composer {
  constructor(calls) {
    this.calls = calls; // { submit(text), changed(), recipient(), candidates(), people(), rooms(), note(text) }
    this.box = $('text');
    this.list = $('suggestions');
    this.conversation = null;
    this.suggestions = [];
    this.selected = -1;
    this.recalled = 0; // how many lines back
    this.isComposing = false;
    this.box.addEventListener('input', () => this.typed());
    this.box.addEventListener('compositionstart', () => {
      this.isComposing = true;
    });
    // Some browsers send the Enter that ends a composition after its end.
    this.box.addEventListener('compositionend', () => {
      setTimeout(() => {
        this.isComposing = false;
      }, 0);
    });
    this.box.addEventListener('keydown', (event) => this.keyed(event));
    this.box.addEventListener('blur', () => setTimeout(() => this.suggest([]), 150));
    $('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      this.submit();
    });
    // A touch on the button must not close the phone's keyboard.
    $('send').addEventListener('pointerdown', (event) => event.preventDefault());
    for (const kind of ['paste', 'drop']) {
      this.box.addEventListener(kind, (event) => {
        const { files } = event.clipboardData ?? event.dataTransfer ?? {};
        if (!files?.length) return;
        event.preventDefault();
        this.calls.note('Images and files can’t be sent here. Send a link.');
      });
    }
  }

  /** Shows the draft of a conversation. */
  show(conversation) {
    this.conversation = conversation;
    this.box.value = conversation.draft;
    this.recalled = 0;
    this.suggest([]);
    this.size();
  }

  get text() {
    return this.box.value;
  }

  /** Replaces the text, as if it had been typed. */
  set(text) {
    this.box.value = text;
    this.box.setSelectionRange(text.length, text.length);
    this.typed();
  }

  /** Inserts a name, as in an answer to it. */
  mention(name) {
    const { value } = this.box;
    this.set(value && !/\s$/.test(value) ? `${value} @${name} ` : `${value}@${name} `);
    this.box.focus();
  }

  typed() {
    // Not to a later sender.
    this.replyTo = this.text.startsWith('/r') && (this.replyTo || lastSender);
    const { conversation } = this;
    conversation.draft = this.box.value;
    if (!conversation.draft) conversation.draftFor = null;
    else conversation.draftFor ??= this.calls.recipient();
    this.size();
    this.suggest(this.find());
    this.calls.changed();
  }

  size() {
    this.box.style.removeProperty('height');
    if (this.box.value) this.box.style.setProperty('height', `${this.box.scrollHeight + 2}px`);
  }

  submit() {
    const text = this.box.value;
    this.suggest([]);
    if (!text.trim() || !this.calls.submit(text)) return;
    const { sentTexts } = this.conversation;
    if (sentTexts.at(-1) !== text) sentTexts.push(text);
    if (sentTexts.length > MOST_SENT) sentTexts.shift();
    this.sent();
  }

  sent() {
    this.recalled = 0;
    this.box.value = '';
    this.typed();
  }

  keyed(event) {
    if (event.isComposing || this.isComposing || event.keyCode === 229) return;
    const isPlain = !event.shiftKey && !event.ctrlKey && !event.altKey && !event.metaKey;
    const { key } = event;
    if (this.suggestions.length && isPlain) {
      if (key === 'ArrowDown' || key === 'ArrowUp') {
        event.preventDefault();
        this.select(this.selected + (key === 'ArrowDown' ? 1 : -1));
        return;
      }
      if (key === 'Tab' || (key === 'Enter' && this.selected >= 0)) {
        event.preventDefault();
        this.accept(Math.max(this.selected, 0));
        return;
      }
      if (key === 'Escape') {
        event.stopPropagation();
        this.suggest([]);
        return;
      }
    }
    if (key === 'Enter' && !event.shiftKey) {
      event.preventDefault();
      this.submit();
    } else if (key === 'Tab' && isPlain && this.box.value) {
      const found = this.find(true);
      if (!found.length) return;
      event.preventDefault();
      this.suggest(found);
      if (found.length === 1) this.accept(0);
    } else if ((key === 'ArrowUp' || key === 'ArrowDown') && isPlain) {
      this.recall(event, key === 'ArrowUp' ? 1 : -1);
    }
  }

  /** The arrow keys bring back the lines sent before, unless they would replace a draft. */
  recall(event, step) {
    const { sentTexts } = this.conversation;
    const current = this.recalled ? sentTexts.at(-this.recalled) : '';
    const next = this.recalled + step;
    if (this.box.value !== current || next < 0 || next > sentTexts.length) return;
    event.preventDefault();
    this.set(next ? sentTexts.at(-next) : '');
    this.recalled = next;
    this.suggest([]);
  }

  /** Finds the suggestions for the word before the cursor. Without `isAsked`, only for commands and `@`. */
  find(isAsked = false) {
    const before = this.box.value.slice(0, this.box.selectionStart);
    if (this.box.selectionStart !== this.box.selectionEnd) return [];
    const word = /\S*$/.exec(before)[0];
    const make = (texts, describe, after = ' ') =>
      texts.map((text) => ({ text: text + after, from: before.length - word.length, describe: describe?.(text) }));
    if (before.startsWith('/') && word === before && !before.startsWith('//')) {
      const rows = COMMANDS.filter((row) => row.names[0].startsWith(word.slice(1).toLowerCase()));
      return rows.map((row) => ({ text: `/${row.names[0]} `, from: 0, label: usageOf(row), describe: row.help }));
    }
    const starts = (text, start) => text.toLowerCase().startsWith(start.toLowerCase());
    if (before.startsWith('/')) {
      const row = commandNamed(readCommand(before).word);
      const isFirst = /^\S+\s+\S*$/.test(before);
      if (row && isFirst && word !== before && (word || isAsked)) {
        const kinds = [];
        if (/NAME/.test(row.takes)) kinds.push(...this.calls.people());
        if (/ROOM/.test(row.takes)) kinds.push(...this.calls.rooms());
        if (/COMMAND/.test(row.takes)) kinds.push(...COMMANDS.map((there) => there.names[0]));
        const found = kinds.filter((text) => starts(text, word));
        if (found.length && !(found.length === 1 && found[0] === word)) return make(found.slice(0, 8));
        return [];
      }
    }
    const name = word.startsWith('@') ? word.slice(1) : word;
    if (!(word.startsWith('@') || (isAsked && word))) return [];
    return make(
      this.calls
        .people()
        .filter((text) => starts(text, name))
        .slice(0, 8)
        .map((text) => (word.startsWith('@') ? `@${text}` : text)),
    );
  }

  suggest(found) {
    this.suggestions = found;
    this.selected = -1;
    this.list.hidden = !found.length;
    this.box.removeAttribute('aria-activedescendant');
    this.list.replaceChildren(
      ...found.map((suggestion, at) => {
        const item = element('li', '', shown(suggestion.label ?? suggestion.text.trim()));
        item.id = `suggestion-${at}`;
        item.setAttribute('role', 'option');
        item.setAttribute('aria-selected', 'false');
        if (suggestion.describe) item.append(element('small', '', suggestion.describe));
        item.addEventListener('pointerdown', (event) => {
          event.preventDefault();
          this.accept(at);
        });
        return item;
      }),
    );
  }

  select(at) {
    const count = this.suggestions.length;
    this.selected = (at + count) % count;
    [...this.list.children].forEach((item, there) => {
      item.setAttribute('aria-selected', String(there === this.selected));
      if (there === this.selected) item.scrollIntoView({ block: 'nearest' });
    });
    this.box.setAttribute('aria-activedescendant', `suggestion-${this.selected}`);
  }

  accept(at) {
    const { text, from } = this.suggestions[at];
    const { value, selectionStart } = this.box;
    this.box.value = value.slice(0, from) + text + value.slice(selectionStart).replace(/^ /, '');
    this.box.setSelectionRange(from + text.length, from + text.length);
    this.typed();
    this.box.focus();
  }
}
