"""The interactive viewer: what to render next and at which size, and the page in the browser."""
