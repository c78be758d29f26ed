// Dark and light: by what the system prefers, until somebody chooses.

const preference = matchMedia("(prefers-color-scheme: dark)");

export function setUpTheme(button, redraw) {
  const show = (theme) => {
    document.documentElement.dataset.theme = theme;
    button.textContent = theme === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", theme === "dark" ? "Light colours" : "Dark colours");
    redraw();
  };
  preference.addEventListener("change", () => {
    if (!localStorage.getItem("theme")) show(preference.matches ? "dark" : "light");
  });
  button.addEventListener("click", () => {
    const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    localStorage.setItem("theme", theme);
    show(theme);
  });
  show(document.documentElement.dataset.theme);
}

export function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
