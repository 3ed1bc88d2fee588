// The people of the chosen conversation, beside its log. On a narrow window they are a drawer.

class People {
  constructor(calls) {
    this.calls = calls; // { list(), menu(name, anchor), isIgnored(name), isMe(name) }
    this.isOpen = false;
    this.isScheduled = false;
    this.colours = new Colours();
    $('show-people').addEventListener('click', () => this.toggle(!this.isOpen));
    $('close-people').addEventListener('click', () => this.toggle(false));
    $('filter').addEventListener('input', () => this.drawNow());
  }

  get isDrawer() {
    return matchMedia('(max-width: 1099px)').matches;
  }

  toggle(isOpen) {
    if (isOpen === this.isOpen) return;
    const hadFocus = $('people').contains(document.activeElement);
    this.isOpen = isOpen;
    $('people').hidden = !isOpen;
    $('show-people').setAttribute('aria-expanded', String(isOpen));
    this.calls.drawCurtain();
    if (isOpen) {
      this.calls.refresh();
      this.drawNow();
      if (this.isDrawer) $('close-people').focus();
    } else if (hadFocus) {
      $('show-people').focus();
    }
  }

  draw() {
    if (this.isScheduled) return;
    this.isScheduled = true;
    setTimeout(() => {
      this.isScheduled = false;
      this.drawNow();
    }, 50);
  }

  drawNow() {
    const { title, names, colours } = this.calls.list();
    $('show-people').hidden = names === null;
    const all = names ?? [];
    $('people-count').textContent = all.length || '';
    if (!this.isOpen) return;
    if (names === null) {
      this.toggle(false);
      return;
    }
    $('people-title').textContent = `${title} (${all.length})`;
    $('filter').hidden = all.length < 12;
    const wanted = $('filter').hidden ? '' : $('filter').value.trim().toLowerCase();
    const found = all.filter((name) => name.toLowerCase().includes(wanted)).sort((a, b) => a.localeCompare(b));
    const focused = document.activeElement?.dataset?.name;
    const rows = found.slice(0, 500).map((name) => {
      const item = element('li');
      const button = buttonOf('', '', () => this.calls.menu(name, button));
      button.dataset.name = name;
      button.setAttribute('aria-haspopup', 'menu');
      const picture = element('span', 'picture', initial(name));
      picture.setAttribute('aria-hidden', 'true');
      picture.style.setProperty('--hue', colours.of(name));
      const more = this.calls.isMe(name) ? ' (you)' : this.calls.isIgnored(name) ? ' (ignored)' : '';
      button.append(picture, element('span', 'name', shown(name) + more));
      item.append(button);
      return item;
    });
    if (!rows.length) rows.push(element('li', 'empty', all.length ? 'No matching names.' : 'Nobody is here.'));
    $('names').replaceChildren(...rows);
    if (focused)
      [...$('names').querySelectorAll('button')]
        .find((button) => button.dataset.name === focused)
        ?.focus({ preventScroll: true });
  }
}
