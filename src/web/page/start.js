'use strict';
// Runs first, and in every browser: tells users of one that is too old for the scripts after it.
// Such a browser reports a syntax error and runs none of them.
(function () {
  window.addEventListener('load', function () {
    if (window.chatHasStarted) return;
    document.getElementById('too-old').hidden = false;
    document.getElementById('welcome').hidden = true;
  });
})();
