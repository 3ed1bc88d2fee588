// The list of conversations beside the log. On a narrow window it is a drawer.

class Sidebar {
  constructor(conversations, calls) {
    this.conversations = conversations;
    this.calls = calls; // { choose(key), chosen() }
    this.rows = new Map();
    this.isScheduled = false;
    $('open-sidebar').addEventListener('click', () => this.toggle(true));
    $('close-sidebar').addEventListener('click', () => this.toggle(false));
    $('curtain').addEventListener('click', () => {
      this.toggle(false);
      calls.hidePeople();
    });
  }

  /** Draws the list soon, once for all changes of this moment. */
  draw() {
    if (this.isScheduled) return;
    this.isScheduled = true;
    const now = () => {
      this.isScheduled = false;
      this.drawNow();
    };
    if (document.visibilityState === 'visible') requestAnimationFrame(now);
    else setTimeout(now, 100);
  }

  drawNow() {
    const chosen = this.calls.chosen();
    const list = $('conversations');
    const focused = document.activeElement;
    const seen = new Set();
    let before = null;
    for (const conversation of this.conversations.sorted()) {
      seen.add(conversation.key);
      let row = this.rows.get(conversation.key);
      if (!row) {
        row = this.row(conversation);
        this.rows.set(conversation.key, row);
      }
      this.drawRow(row, conversation, conversation === chosen);
      const place = before ? before.nextSibling : list.firstChild;
      if (row.item !== place) list.insertBefore(row.item, place);
      before = row.item;
    }
    for (const [key, row] of this.rows) {
      if (seen.has(key)) continue;
      row.item.remove();
      this.rows.delete(key);
    }
    // Moving a row takes the focus from it.
    if (focused?.isConnected && focused !== document.activeElement && list.contains(focused))
      focused.focus({ preventScroll: true });
    const others = this.conversations.unread - (chosen?.unread ?? 0);
    $('badge').hidden = !others;
    $('badge').textContent = others > 99 ? '99+' : others;
    $('open-sidebar').setAttribute('aria-label', others ? `Conversations, ${others} unread` : 'Conversations');
    this.calls.drawn();
  }

  row(conversation) {
    const item = element('li');
    const button = buttonOf('', '', () => this.calls.choose(conversation.key));
    const sign = element('span', conversation.kind === 'person' ? 'picture' : 'sign', this.signOf(conversation));
    sign.setAttribute('aria-hidden', 'true');
    if (conversation.kind === 'person') sign.style.setProperty('--hue', conversation.colours.of(conversation.name));
    const name = element('span', 'name');
    const draft = element('span', 'draft');
    const count = element('span', 'count');
    button.append(sign, name, draft, count);
    item.append(button);
    return { item, button, name, draft, count };
  }

  signOf({ kind, name }) {
    return { room: '#', everyone: '∗', partner: '⇄', requests: '…' }[kind] ?? initial(name);
  }

  drawRow(row, conversation, isChosen) {
    const { unread, mentioned } = conversation;
    const label = this.calls.labelOf(conversation);
    row.name.textContent = shown(conversation.kind === 'room' ? conversation.name : label);
    row.draft.textContent = conversation.draft && !isChosen ? 'draft' : '';
    row.count.hidden = !unread;
    row.count.textContent = `${mentioned && conversation.kind !== 'person' ? '@' : ''}${unread > 99 ? '99+' : unread}`;
    row.button.classList.toggle('is-unread', unread > 0);
    row.button.classList.toggle('is-mentioned', unread > 0 && mentioned);
    row.button.setAttribute(
      'aria-label',
      shown(label) +
        (unread ? `, ${unread} unread${mentioned ? ', mentions you' : ''}` : '') +
        (row.draft.textContent ? ', draft' : ''),
    );
    if (isChosen) row.button.setAttribute('aria-current', 'page');
    else row.button.removeAttribute('aria-current');
    if (isChosen && this.drawnFor !== conversation) {
      this.drawnFor = conversation;
      row.item.scrollIntoView({ block: 'nearest' });
    }
  }

  get isDrawer() {
    return matchMedia('(max-width: 767px)').matches;
  }

  toggle(isOpen) {
    const wasOpen = $('sidebar').classList.contains('is-open');
    $('sidebar').classList.toggle('is-open', isOpen);
    $('open-sidebar').setAttribute('aria-expanded', String(isOpen));
    this.calls.drawCurtain();
    if (!this.isDrawer) return;
    if (isOpen) $('close-sidebar').focus();
    else if (wasOpen && $('sidebar').contains(document.activeElement)) $('open-sidebar').focus();
  }
}
