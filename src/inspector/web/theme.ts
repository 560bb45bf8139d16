/** Light, dark, or as the system has it; kept by this browser. */
const key = "scoot-actors.theme";
const themes = ["auto", "light", "dark"] as const;
type Theme = typeof themes[number];

export const theme = (): Theme => themes.find((one) => one === localStorage.getItem(key)) ?? "auto";

export function applyTheme(): void {
  document.documentElement.dataset["theme"] = theme();
}

/** The next of them. */
export function turnTheme(): Theme {
  const next = themes[(themes.indexOf(theme()) + 1) % themes.length]!;
  localStorage.setItem(key, next);
  applyTheme();
  return next;
}
