// A service worker is stopped after 30 idle seconds, so the engine runs in the side panel's page.
chrome.sidePanel.setPanelBehavior({ openPanelOnActionClick: true });
