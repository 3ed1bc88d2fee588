// What belongs to the name that is logged in: its rooms, conversations and drafts, which the browser
// remembers for the next visit.

/** Shows what the browser remembers for a name. */
function recall(name) {
  if (lastName && lastName.toLowerCase() !== name.toLowerCase()) reset();
  if (lastName) return;
  lastName = name;
  remembered = store.get(`name:${name.toLowerCase()}`, {});
  ignored = new Set(remembered.ignored ?? []);
  conversations.open('everyone');
  for (const room of remembered.rooms ?? [settings.room]) conversations.open('room', room);
  for (const person of remembered.people ?? []) {
    conversations.open('person', person).isAnswered = !remembered.strangers?.includes(person);
  }
  for (const there of conversations.all.values()) {
    there.draft = remembered.drafts?.[there.key] ?? there.draft;
    there.draftFor = there.draft ? (there.kind === 'partner' ? 'partner' : there.key) : null;
    there.readId = remembered.read?.[there.key] ?? 0;
  }
}

/** Forgets what belongs to the name that was logged in. */
function reset() {
  lastName = null;
  hasLanded = false;
  remembered = {};
  online.clear();
  ignored.clear();
  for (const key of [...conversations.all.keys()]) if (key !== 'partner') conversations.close(key);
  if (chosen?.kind !== 'partner') {
    chosen = null;
    choose(conversations.open('partner').key, 'replace');
  }
  sidebar.draw();
}

function loggedIn(name) {
  recall(name);
  const isFirst = !hasLanded;
  hasLanded = true;
  isGuest = false;
  for (const there of conversations.all.values()) there.resumeId = there.newestId;
  const landing = isFirst && wantedAddress && openAddress(wantedAddress, 'replace');
  wantedAddress = '';
  if (isFirst && !landing) {
    const key = conversations.get(remembered.chosen) ? remembered.chosen : Conversations.keyOf('room', settings.room);
    choose(conversations.get(key) ? key : 'everyone', 'replace');
  }
  showShell();
  drawMe();
  refreshPeople();
  for (const there of conversations.all.values()) {
    if (there.kind === 'room' && !there.isMember && wantedRoom !== there.key)
      session.join(there.name, { failed: (code, sentence) => cantJoin(there, sentence) });
    there.isStale = there.kind === 'everyone' || there.kind === 'person';
  }
  // The others when they are opened: there may be a hundred.
  const latest = [...conversations.all.values()].filter((there) => there.isStale).sort((a, b) => b.active - a.active);
  for (const there of latest)
    if (there.kind === 'everyone' || there === chosen || latest.indexOf(there) < 12) catchUp(there);
  drawHeading();
  if (isFirst && !sidebar.isDrawer) $('text').focus();
}

function logout() {
  save();
  store.set('session', null);
  reset();
  session.logout();
  showCard();
  welcome.askName();
}

let saving = null;

function saveSoon() {
  saving ??= setTimeout(save, 300);
}

function save() {
  clearTimeout(saving);
  saving = null;
  if (!lastName) return;
  const all = [...conversations.all.values()];
  const some = (read) => Object.fromEntries(all.map((there) => [there.key, read(there)]).filter(([, value]) => value));
  Object.assign(remembered, {
    rooms: all.filter((there) => there.kind === 'room').map((there) => there.name),
    people: all.filter((there) => there.kind === 'person').map((there) => there.name),
    strangers: all.filter((there) => !there.isAnswered).map((there) => there.name),
    drafts: some((there) => there.draft),
    read: some((there) => there.readId),
    ignored: [...ignored],
  });
  store.set(`name:${lastName.toLowerCase()}`, remembered);
}
