// Before the first paint, so that a dark page does not flash white. The rest of the settings are read by src/state/settings.ts.
try {
  const theme = JSON.parse(localStorage.getItem("polyana.settings") || "{}").theme;
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
} catch {
  // without storage the system's preference stands
}
