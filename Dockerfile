# One image for every role; docker-compose.yml says which command each runs.
ARG PYTHON_IMAGE=python:3.12-slim
FROM ${PYTHON_IMAGE}

WORKDIR /srv
COPY requirements.lock .
RUN pip install --no-cache-dir --require-hashes -r requirements.lock

COPY app app
COPY jobs jobs
COPY scheduler.py .

RUN useradd --system --uid 10001 jobline && mkdir /srv/data && chown jobline /srv/data
USER jobline
ENV DATA_DIR=/srv/data LOG_FORMAT=json PYTHONUNBUFFERED=1
EXPOSE 8000

CMD ["python", "-m", "app.api.server"]
HEALTHCHECK --start-period=10s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/livez', timeout=3)"]
