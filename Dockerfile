# docker build -t mxbatch .
# docker run --gpus all -v /archive:/archive:ro -v /calls:/out mxbatch score /archive --out /out --model /out/model
FROM nvidia/cuda:13.0.1-base-ubuntu24.04

RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*

COPY . /src
RUN python3 -m venv /opt/mxbatch \
 && /opt/mxbatch/bin/pip install --no-cache-dir -c /src/constraints.txt /src \
 && rm -rf /src

RUN useradd --create-home --uid 10001 mxbatch
USER mxbatch
WORKDIR /home/mxbatch
ENV PATH=/opt/mxbatch/bin:$PATH

HEALTHCHECK --interval=5m --timeout=2m CMD ["mxbatch", "doctor"]
ENTRYPOINT ["mxbatch"]
CMD ["--help"]
