// What is done in Thunderbird's own window, with Thunderbird's own parts: `thunderbird.py` hands it over and asks how it ended.
// Afterwards window.labOutcome is a promise of {status, said}: 0 or an nsresult, and the lines of the error console.

const [task, errand] = arguments;
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");

const dialogs = [];

function cancel(dialog) {
  dialogs.push(dialog.document.getElementById("infoBody").textContent);
  dialog.setTimeout(() => dialog.document.querySelector("dialog").cancelDialog());
}

function trust(authority) {
  const database = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB);
  database.addCertFromBase64(authority.replace(/-----[A-Z ]+-----|\s/g, ""), "CTu,,");
}

function send(account) {
  const identity = account.defaultIdentity;
  const fields = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
  fields.from = `${identity.fullName} <${identity.email}>`;
  fields.to = errand.recipient;
  fields.subject = errand.subject;
  fields.forcePlainText = true;
  MailServices.outgoingServer.defaultServer.password = errand.password;
  return new Promise(resolve => {
    // Sent is not done: its copy in the folder "Sent" comes after it.
    const listener = {
      QueryInterface: ChromeUtils.generateQI(["nsIMsgSendListener", "nsIMsgCopyServiceListener"]),
      onStartSending() {},
      onSendProgress() {},
      onStatus() {},
      onStopSending: (_id, status) => status && resolve(status),
      onGetDraftFolderURI() {},
      onSendNotPerformed() {},
      onTransportSecurityError() {},
      onStartCopy() {},
      onProgress() {},
      setMessageKey() {},
      getMessageId: () => "",
      onStopCopy: resolve,
    };
    Cc["@mozilla.org/messengercompose/send;1"]
      .createInstance(Ci.nsIMsgSend)
      .createAndSendMessage(
        null, identity, account.key, fields, false, false, Ci.nsIMsgSend.nsMsgDeliverNow, null, "text/plain", errand.body,
        null, null, listener, "", null, Ci.nsIMsgCompType.New
      )
      .catch(() => {}); // the listener was told
  });
}

function read(account) {
  const server = account.incomingServer;
  server.password = errand.password;
  const inbox = server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
  return new Promise(resolve => {
    const listener = { OnStartRunningUrl() {}, OnStopRunningUrl: (_url, status) => resolve(status) };
    MailServices.pop3.GetNewMail(null, listener, inbox, server);
  });
}

function said() {
  const console = Cc["@mozilla.org/consoleAPI-storage;1"].getService(Ci.nsIConsoleAPIStorage);
  return [...dialogs, ...console.getEvents().map(event => `${event.prefix}: ${event.arguments.join(" ")}`)];
}

Services.obs.addObserver(cancel, "common-dialog-loaded");
if (errand.authority) {
  trust(errand.authority);
}
window.labOutcome = { send, read }[task](MailServices.accounts.defaultAccount).then(status => ({ status, said: said() }));
