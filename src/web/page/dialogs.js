// The menus of people, messages, rooms and settings, and the dialogs that they open.

// --- people

function refreshPeople() {
  if (!session.name) return;
  session.who(null, (users) => {
    online.clear();
    for (const user of users) online.add(user);
    people.draw();
    drawHeading();
  });
  if (chosen?.kind === 'room' && chosen.isMember) refreshMembers(chosen);
}

function refreshMembers(conversation) {
  session.who(conversation.name, (users) => {
    conversation.members = new Set(users);
    people.draw();
  });
}

function peopleOfChosen() {
  if (chosen?.kind === 'room')
    return { title: `In ${chosen.label}`, names: [...chosen.members], colours: chosen.colours };
  if (chosen?.kind === 'everyone') return { title: 'Logged in', names: [...online], colours: chosen.colours };
  return { title: '', names: null };
}

function ignore(name, isOn) {
  if (isOn) ignored.add(name.toLowerCase());
  else ignored.delete(name.toLowerCase());
  toast(isOn ? `You no longer see what ${name} writes` : `You see what ${name} writes again`);
  if (isOn)
    for (const there of conversations.all.values())
      for (const item of there.items.filter((it) => it.from?.toLowerCase() === name.toLowerCase()))
        forgetItem(there, item);
  people.draw();
  saveSoon();
}

function personMenu(name) {
  if (isMe(name)) return [{ label: 'Copy your name', action: () => copyText(name) }];
  const moderation = [
    null,
    { label: 'Kick…', isDanger: true, action: () => askOrder('KICK', name) },
    { label: 'Mute…', isDanger: true, action: () => askOrder('MUTE', name) },
    { label: 'Unmute', action: () => session.order('UNMUTE', { username: name }) },
    { label: 'Ban…', isDanger: true, action: () => askOrder('BAN', name) },
  ];
  return [
    { label: 'Private message', action: () => talkTo(name) },
    {
      label: 'Mention',
      action: () => {
        if (people.isDrawer) people.toggle(false);
        composer.mention(name);
      },
    },
    null,
    { label: isIgnored(name) ? 'Stop ignoring' : 'Ignore', action: () => ignore(name, !isIgnored(name)) },
    { label: 'Report…', action: () => askOrder('REPORT', name) },
    ...(session.isModerator ? moderation : []),
  ];
}

function messageMenu(item) {
  const copy = { label: 'Copy text', action: () => copyText(item.text) };
  if (item.mine || chosen.kind === 'partner' || !session.name) return [copy];
  return [copy, null, ...personMenu(item.from)];
}

/** Asks for what a moderator's command needs, or a report. */
function askOrder(command, name) {
  const reason = { name: 'reason', label: 'Reason', max: 200, isRequired: command === 'REPORT' };
  const duration = { name: 'duration', label: 'For how long? (such as 30s, 10m, 2h or 7d; empty: no limit)' };
  const of = {
    REPORT: {
      title: `Report ${name}`,
      text: 'The operator and the moderators will read it.',
      fields: [reason],
      submit: 'Report',
    },
    KICK: {
      title: `Kick ${name}`,
      text: `${name} will be disconnected and can’t come back for a minute.`,
      fields: [reason],
      submit: 'Kick',
      isDanger: true,
    },
    MUTE: {
      title: `Mute ${name}`,
      text: `${name} will not be able to send messages.`,
      fields: [duration],
      submit: 'Mute',
      isDanger: true,
    },
    BAN: {
      title: `Ban ${name}`,
      text: `${name} will be disconnected and can’t log in again.`,
      fields: [duration, reason],
      submit: 'Ban',
      isDanger: true,
    },
  }[command];
  ask({
    ...of,
    done: (values) => {
      if (values.duration && !DURATION.test(values.duration))
        return 'A duration is a number with a unit, such as 30s, 10m, 2h or 7d.';
      session.order(command, { username: name, reason: values.reason, duration: values.duration || null });
      return null;
    },
  });
}

// --- menus and dialogs of the page

function roomMenu() {
  const { kind, name, key, topic } = chosen;
  if (kind === 'room') {
    return [
      {
        label: 'Change the topic…',
        action: () =>
          ask({
            title: `Topic of #${name}`,
            fields: [{ name: 'topic', label: 'Topic', value: topic, max: 500 }],
            submit: 'Set the topic',
            done: (values) => session.topic(name, values.topic),
          }),
      },
      {
        label: 'Copy a link to this room',
        action: () => copyText(location.href.replace(/[?#].*$/, '') + addressOf(chosen)),
      },
      null,
      { label: 'Leave the room', isDanger: true, action: () => leaveRoom(chosen) },
    ];
  }
  if (kind === 'person')
    return [
      ...personMenu(name).slice(1),
      null,
      { label: 'Close the conversation', action: () => closeConversation(key) },
    ];
  const close = kind === 'requests' ? [{ label: 'Close the conversation', action: () => closeConversation(key) }] : [];
  return [{ label: 'Clear this screen only', action: () => clearChosen() }, ...close];
}

function clearChosen() {
  const { hasOlder, kind } = chosen;
  chosen.clear();
  chosen.hasOlder = false;
  log.rebuild();
  log.toEnd();
  if (kind !== 'partner')
    setTimeout(() => {
      chosen.hasOlder = hasOlder;
    }, 0);
  sidebar.draw();
}

function leaveRoom(conversation) {
  if (session.isIn && conversation.isMember) session.leaveRoom(conversation.name);
  else closeConversation(conversation.key);
}

function settingsMenu() {
  const look = { label: 'How you are connected', action: () => showLook(true) };
  const notify = { label: alerts.isOn ? 'Turn notifications off' : 'Notify me', action: () => alerts.toggle() };
  const leave = session.socket
    ? { label: 'Disconnect', action: () => session.leave() }
    : { label: 'Reconnect', action: () => session.comeBack() };
  if (!session.name)
    return [
      {
        label: 'Log in…',
        action: () => {
          isGuest = false;
          showCard();
          welcome.askName();
        },
      },
      notify,
      look,
      leave,
    ];
  const password = settings.passwords ? [{ label: 'Change your password…', action: askNewPassword }] : [];
  const hidden = ignored.size ? [{ label: 'Ignored people…', action: askIgnored }] : [];
  return [notify, ...password, ...hidden, look, null, leave, { label: 'Log out', isDanger: true, action: logout }];
}

function askNewPassword() {
  // For the browser's own list of passwords.
  const username = element('input');
  Object.assign(username, { hidden: true, autocomplete: 'username', value: session.name });
  const dialog = ask({
    content: username,
    title: 'Change your password',
    text: 'This logs you out of all other browsers.',
    fields: [
      {
        name: 'old',
        label: 'Old password',
        type: 'password',
        isRequired: true,
        max: 128,
        autocomplete: 'current-password',
      },
      {
        name: 'next',
        label: 'New password',
        type: 'password',
        isRequired: true,
        max: 128,
        autocomplete: 'new-password',
      },
      {
        name: 'again',
        label: 'Repeat the new password',
        type: 'password',
        isRequired: true,
        max: 128,
        autocomplete: 'new-password',
      },
    ],
    submit: 'Change',
    done: ({ old, next, again }) => {
      if (next !== again) return 'The new passwords differ.';
      session.changePassword(old, next, {
        done: () => {
          dialog.close();
          toast('Your password was changed');
        },
        failed: (code, sentence) => dialog.wrong(sentenceOf(sentence)),
      });
      return 'Changing…';
    },
  });
}

function askIgnored() {
  const list = element('div', 'choices');
  for (const name of ignored)
    list.append(
      buttonOf(`Stop ignoring ${name}`, '', (event) => {
        ignore(name, false);
        event.target.remove();
      }),
    );
  ask({ title: 'Ignored people', content: list });
}

/** Asks for a name from a list, which typing narrows down. */
function askChoice({ title, label, submit, choices, empty, done }) {
  const list = element('div', 'choices');
  const dialog = ask({
    title,
    fields: [{ name: 'name', label, isName: true, max: 32 }],
    content: list,
    submit,
    done: ({ name }) =>
      /^[A-Za-z0-9_.-]{1,32}$/.test(name) ? done(name) : 'A name has 1 to 32 characters: a to z, digits, _ . or -',
  });
  const input = dialog.querySelector('input');
  let all = [];
  const draw = () => {
    const found = all.filter(({ name }) => name.toLowerCase().includes(input.value.trim().toLowerCase()));
    list.replaceChildren(
      ...found.slice(0, 200).map(({ name, more }) => {
        const button = buttonOf(shown(name), '', () => {
          dialog.close();
          done(name);
        });
        if (more) button.append(element('small', '', more));
        return button;
      }),
    );
    if (!found.length) list.append(element('p', 'empty', empty));
  };
  input.addEventListener('input', draw);
  choices((found) => {
    all = found;
    draw();
  });
}

function askRoom() {
  if (!session.name) {
    joinRoom(settings.room);
    return;
  }
  askChoice({
    title: 'Rooms',
    label: 'Join a room, or create a new one',
    submit: 'Join',
    empty: 'No such room yet. Joining creates it.',
    choices: (use) =>
      session.listRooms((rooms) =>
        use(rooms.map(({ name, members }) => ({ name, more: members === 1 ? '1 person' : `${members} people` }))),
      ),
    done: (name) => {
      sidebar.toggle(false);
      joinRoom(name);
    },
  });
}

function askPerson() {
  if (!session.name) {
    talkTo('');
    return;
  }
  askChoice({
    title: 'People',
    label: 'Write to one person',
    submit: 'Write',
    empty: 'Nobody else with that name is logged in.',
    choices: (use) => session.who(null, (users) => use(users.filter((user) => !isMe(user)).map((name) => ({ name })))),
    done: (name) => talkTo(name),
  });
}
