// Messages on their way: those that arrive, old ones that are fetched, and those that the user sends.

function conversationOf({ scope, room, from, to }) {
  if (scope === 'public') return conversations.open('everyone');
  if (scope === 'room') return conversations.open('room', room ?? '?');
  if (scope === 'direct') return conversations.forPerson(isMe(from) && to ? to : from);
  return conversations.open('partner');
}

function messageOf(said) {
  const mine = said.scope !== 'partner' && isMe(said.from);
  const time = said.time ? new Date(said.time) : new Date();
  return {
    id: said.id,
    at: Number.isNaN(time.getTime()) ? new Date() : time,
    from: said.from,
    text: said.text,
    me: said.me,
    old: said.old,
    gap: said.gap,
    mine,
    mentions: !mine && mentions(said.text, session.name),
    state: mine ? 'sent' : null,
  };
}

/** Shows a message from the server: a new one, or an old one that the server sends again. */
function receive(said, known) {
  if (isIgnored(said.from)) return;
  const conversation = known ?? conversationOf(said);
  const message = messageOf(said);
  if (conversation.kind === 'requests') message.label = 'wrote to you for the first time';
  const at = conversation.add(message);
  if (at === null) return;
  const isUnread = !message.mine && (message.old ? conversation.readId > 0 && message.id > conversation.readId : true);
  const isSeenNow = isSeen(conversation);
  if (isUnread && !isSeenNow) {
    // The first message of a stranger: everything before has been read.
    if (!conversation.readId && message.id) conversation.readId = message.id - 1;
    conversation.unread += 1;
    conversation.mentioned ||= message.mentions || said.scope === 'direct';
    if (!conversation.mark) conversation.mark = message;
  }
  if (conversation === chosen) log.added(at);
  if (conversation !== chosen && conversation.items.length > 2 * KEPT_LINES) conversation.forget(KEPT_LINES);
  conversations.touch(conversation);
  if (isSeenNow) conversation.read();
  sidebar.draw();
  drawSeen();
  saveSoon();
  if (message.old || message.mine) return;
  if (said.scope === 'direct') lastSender = said.from;
  if (said.scope === 'direct' || said.scope === 'partner' || message.mentions) {
    alerts.notify(
      shown(said.from) + (conversation.kind === 'room' ? ` in #${conversation.name}` : ''),
      shown(said.text),
      conversation.key,
    );
  }
}

/** Adds a line of the page itself. Joins and departures share one line. */
function addNote(conversation, text, tone) {
  const last = conversation.items.at(-1);
  if (tone === 'presence' && last?.tone === 'presence' && last.text.length < 200) {
    last.text += `, ${text}`;
    last.node?.querySelector('.text').replaceChildren(shown(last.text));
    return;
  }
  conversation.items.push({ note: true, text, tone, at: new Date() });
  if (conversation === chosen) log.added(conversation.items.length - 1);
}

function forgetItem(conversation, item) {
  item.node?.remove();
  conversation.remove(item);
}

/** Fetches what the conversation lacks: after a break, everything since; at first, its last messages. */
function catchUp(conversation, rounds = 5) {
  conversation.isStale = false;
  const after = conversation.resumeId ?? null;
  session.history(conversation, after ? { after } : { count: 60 }, {
    page(messages, more) {
      if (after && more && !rounds) {
        // Too much was missed: begin again with the newest messages.
        conversation.clear();
        conversation.resumeId = null;
        if (conversation === chosen) log.rebuild();
        catchUp(conversation);
        return;
      }
      if (!after) conversation.hasOlder = more;
      for (const message of messages) receive(message, conversation);
      if (after && more) {
        conversation.resumeId = messages.at(-1).id;
        catchUp(conversation, rounds - 1);
        return;
      }
      conversation.resumeId = null;
      if (!conversation.readId) conversation.readId = conversation.newestId ?? 1;
      if (conversation === chosen) {
        log.drawBegin();
        drawSeen();
      }
    },
    failed: () => {
      conversation.hasOlder = false;
      if (conversation === chosen) log.drawBegin();
    },
  });
}

function loadOlder(conversation) {
  if (!session.name || (conversation.kind === 'room' && !conversation.isMember)) return;
  conversation.isLoading = true;
  log.drawBegin();
  const finish = (count) => {
    conversation.isLoading = false;
    if (conversation !== chosen) return;
    if (count) log.addedOlder(count);
    else log.drawBegin();
  };
  session.history(
    conversation,
    { before: conversation.oldestId },
    {
      page(messages, more) {
        conversation.hasOlder = more;
        finish(conversation.addOlder(messages.filter(({ from }) => !isIgnored(from)).map(messageOf)));
      },
      failed() {
        conversation.hasOlder = false;
        finish(0);
      },
      lost() {
        conversation.isLoading = false;
      },
    },
  );
}

/** Identifies the recipient of a draft. The partner's seat may get another client. */
function recipient() {
  if (chosen?.kind !== 'partner') return chosen?.key;
  return session.partner ? `partner:${session.link}:${session.partner.arrival}` : 'partner';
}

/** Sends a line, or runs a command. Returns whether to clear the box. */
function submit(text) {
  // Its reply appears at the end.
  log.toEnd();
  if (chosen.draftFor && chosen.draftFor !== recipient()) {
    chosen.draftFor = recipient();
    const now = session.partner ? `your partner is ${session.partner.label} now` : 'your partner has left';
    addNote(chosen, `Not sent: ${now}. Press Enter again to send the text.`, 'trouble');
    return false;
  }
  if (text.startsWith('/') && !text.startsWith('//')) return obey(text);
  return say(chosen, text.startsWith('//') ? text.slice(1) : text, false);
}

/** Sends a message in a conversation. Returns whether to clear the box. */
function say(conversation, text, me) {
  const { kind } = conversation;
  const named = kind === 'partner' && /^%([A-Za-z0-9_.-]{1,32})%([^]*)$/.exec(text);
  // Seed 003's form of a direct message.
  if (named) return say(conversations.open('person', named[1]), named[2], me);
  if (documents.bytes(documents.command('SAY', { room: conversation.name, message: text }, true)) > session.max) {
    addNote(
      chosen,
      `Not sent: the message is longer than ${session.max} bytes. Shorten it and send it again.`,
      'trouble',
    );
    return false;
  }
  const item = {
    id: null,
    at: new Date(),
    from: session.name ?? session.identity?.name ?? 'you',
    text,
    me,
    mine: true,
    state: 'sending',
  };
  const at = conversation.add(item);
  conversation.isAnswered = true;
  conversations.touch(conversation);
  const become = (state, more) => {
    Object.assign(item, { state, ...more });
    item.draw?.();
  };
  if (conversation === chosen) {
    conversation.mark = null;
    log.drawMark();
    log.added(at);
    log.toEnd();
  }
  sidebar.draw();
  let why = null;
  if (!session.isIn) why = 'you are not connected';
  else if (kind === 'partner' && !session.partner) why = 'you have no partner';
  else if (kind !== 'partner' && !session.name) why = 'you are not logged in';
  else if (!conversation.isMember) why = 'you are not in that room';
  if (why) become('failed', { reason: why });
  else {
    session.send(conversation, text, me, {
      done: (reply) => (reply?.kind === 'SENT' ? become('delivered', { count: reply.count }) : become('sent')),
      failed: (code, sentence) => become('failed', { reason: sentence }),
      lost: () => become('unsure'),
    });
  }
  return true;
}
